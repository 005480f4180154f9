// SPDX-License-Identifier: Apache-2.0
// main.c - argv and the table of sub-commands.
int main(void)
{
    return 0;
}
