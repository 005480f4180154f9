# SPDX-License-Identifier: Apache-2.0
"""test_dashboard.py - the page in a real Chromium: it shows what the API says, takes events for text, and stays awake."""
import json

import pytest
import servers
from admin import Admin, flood
from playwright.sync_api import sync_playwright

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
SCRIPT = "<script>document.title='hacked'</script><img src=x onerror=document.title='hacked'>"
TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(str(tmp_path_factory.mktemp("profile")), args=FLAGS,
                                                                executable_path="/usr/bin/chromium", headless=True)
        yield context
        context.close()


@pytest.fixture
def page(chromium):
    page = chromium.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text) if "Content Security" in message.text else None)
    yield page
    assert not page.complaints
    page.close()


@pytest.fixture
def admin(gaitd, tmp_path):
    made = Admin(gaitd, tmp_path / "admin")
    made.generate()
    made.start()
    made.daemon.wait_events(20000)
    return made


def value(page, selector):
    return page.locator(selector).first.get_attribute("data-value")


def test_values_equal_the_api(admin, page):
    page.goto(f"http://127.0.0.1:{admin.port}/")
    page.wait_for_selector("#state[data-state=ok]")
    servers.wait_until(lambda: value(page, "#v-table") == str(admin.json("/api/status")["table"]["users"]), 10, "users")
    status, shop = admin.json("/api/status"), admin.json("/api/shop")
    assert value(page, "#v-alerts") == str(status["alerts"]) and page.inner_text("#f-version") == status["version"]
    counts = {f["type"]: f["count"] for f in shop["funnel"]}
    shown = [int(b.get_attribute("data-value")) for b in page.locator("#funnel b").all()]
    assert shown == [counts[t] for t in ("product_view", "add_to_cart", "checkout", "purchase")]
    assert page.locator("#interests .interest").count() == min(10, len(shop["interests"]))
    assert page.locator("#alerts .alert").count() == min(100, status["alerts"])


def test_one_user_as_the_api_has_them(admin, page):
    admin.add(flood("ann", 12))
    servers.wait_until(lambda: admin.json("/api/alerts?user=ann")["alerts"], 20, "alerts about ann")
    page.goto(f"http://127.0.0.1:{admin.port}/")
    page.wait_for_selector("#state[data-state=ok]")
    page.keyboard.press("/")
    page.keyboard.type("ann")
    page.keyboard.press("Enter")
    page.wait_for_selector(".facets")
    ann = admin.json("/api/users/ann")
    row = page.locator("#user tr", has=page.locator("th", has_text="purchase")).first
    shown = [float(td.get_attribute("data-value")) for td in row.locator("td").all()]
    assert shown == [v for k, v in ann["windows"].items() if k.startswith("count.purchase.")]
    assert page.locator("#user .strip circle").count() == len(ann["events"])
    assert ann["alerts"][0]["symbols"][0]["text"] in page.inner_text("#user")
    assert float(page.locator("#user dd[data-value]").nth(1).get_attribute("data-value")) == ann["risk"]
    page.fill("#find", "nobody at all")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=has a record of this user")


def test_markup_in_events_stays_text(admin, page):
    page.goto(f"http://127.0.0.1:{admin.port}/")
    page.wait_for_selector("#state[data-state=ok]")
    admin.add(flood(SCRIPT, 12, category=SCRIPT, item_id=SCRIPT))
    page.wait_for_function("text => [...document.querySelectorAll('.who')].some(e => e.textContent === text)", arg=SCRIPT, timeout=20000)
    page.locator(".who", has_text="document.title").first.click()
    page.wait_for_selector(".facets")
    assert SCRIPT in page.inner_text("#user dd >> nth=0") and page.title() == "gait"
    assert page.evaluate("document.querySelectorAll('main script, main img').length") == 0


def test_a_thousand_alerts_do_not_freeze_it(admin, page):
    page.goto(f"http://127.0.0.1:{admin.port}/")
    page.wait_for_selector("#state[data-state=ok]")
    page.evaluate("""() => { window.longest = 0; let last = performance.now();
        const tick = (now) => { window.longest = Math.max(window.longest, now - last); last = now; requestAnimationFrame(tick); };
        requestAnimationFrame(tick); }""")
    before = admin.json("/api/status")["alerts"]
    admin.add([event for k in range(1100) for event in flood(f"bot{k}", 7)])
    servers.wait_until(lambda: admin.json("/api/status")["alerts"] >= before + 1000, 30, "a thousand alerts")
    page.wait_for_function("n => Number(document.getElementById('v-alerts').dataset.value) >= n", arg=before + 1000, timeout=10000)
    assert page.locator("#alerts .alert").count() <= 200
    assert page.evaluate("window.longest") < 1500
    page.keyboard.press("p")
    assert page.get_attribute("#hold", "aria-pressed") == "true"


def test_the_token_stays_in_memory(gaitd, tmp_path, page):
    admin = Admin(gaitd, tmp_path / "admin", token=TOKEN).start()
    page.goto(f"http://127.0.0.1:{admin.port}/")
    page.wait_for_selector("#ask[open]")
    page.fill("#token", "a wrong one, not the token")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=That token was refused")
    page.wait_for_timeout(300)  # the pause after a wrong token
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#state[data-state=ok]", timeout=20000)
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href, document.body.innerHTML])")
    assert TOKEN not in kept
    page.reload()
    page.wait_for_selector("#ask[open]")


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const d = canvas.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
  const light = (c) => { const l = c.slice(0, 3).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2]; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; }
    return [255, 255, 255, 1]; };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility() || e.closest("svg")) continue;
    const a = light(rgb(getComputedStyle(e).color)), b = light(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(e.tagName + "." + e.className + " " + ratio.toFixed(2) + " " + e.textContent.slice(0, 30));
  }
  return [...new Set(poor)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_phone(admin, page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"http://127.0.0.1:{admin.port}/")
    page.wait_for_selector("#state[data-state=ok]")
    page.locator(".who").first.click()
    page.wait_for_selector(".facets")
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.evaluate(CONTRAST) == []
    for width in (360, 390, 768, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") != scheme


def test_size_and_names():
    folder = servers.ROOT / "daemon" / "dashboard"
    files = list(folder.iterdir())
    assert sum(f.stat().st_size for f in files) <= 60 * 1024
    html = (folder / "index.html").read_text()
    assert "onclick" not in html and "<style" not in html and "style=" not in html
    assert json.loads((servers.ROOT / "conf" / "openapi.json").read_text())["openapi"].startswith("3.")
