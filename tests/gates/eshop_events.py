#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the clicks of the clothing shop (UCI "clickstream data for online shopping") into gait's event files.

Usage: eshop_events.py clicks.csv.gz FOLDER
Writes train.jsonl (April to July), test.jsonl (August) and items.csv (what the shop knows of each clothing model).
The data has a day but no clock: clicks of a day, which come visit by visit, are spread evenly over it.
"""
import csv
import datetime
import gzip
import json
import pathlib
import sys

DAY_MS = 86_400_000


def read(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines, delimiter=";")
        next(rows)
        yield from rows


def main():
    source, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    days = {}
    for row in read(source):
        days.setdefault(tuple(int(x) for x in row[:3]), []).append(row)
    items = {}
    with open(folder / "train.jsonl", "w") as train, open(folder / "test.jsonl", "w") as test:
        for (year, month, day), rows in sorted(days.items()):
            start = int(datetime.datetime(year, month, day, tzinfo=datetime.timezone.utc).timestamp() * 1000)
            for i, row in enumerate(rows):
                country, session, category, item, colour, location, photo, price, price_2, page = row[4:14]
                event = {"type": "product_view", "user_id": "v" + session, "session_id": session,
                         "ts": start + DAY_MS * i // len(rows), "item_id": item, "category": category,
                         "price": float(price), "country": country, "page": page}
                (train if month < 8 else test).write(json.dumps(event, separators=(",", ":")) + "\n")
                place = f"{location}-{page}"
                items.setdefault(item, [category, colour, location, page, photo, price, place, f"{category}-{page}"])
    with open(folder / "items.csv", "w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["item", "category", "colour", "location", "page", "photo", "price", "place", "section"])
        for item, attributes in sorted(items.items()):
            table.writerow([item, *attributes])


main()
