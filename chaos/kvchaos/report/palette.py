"""The colours of the page, by what they mean: one set in the light, one in the dark, each to be told apart without red and green.

After the palette of Okabe and Ito. Plots name them as CSS variables, and no meaning rests on a colour alone: outcomes have shapes
and dashes, verdicts have words.
"""

from __future__ import annotations

from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "paper": "#ffffff",
    "card": "#f6f7f9",
    "ink": "#16191d",
    "faint": "#545b66",
    "line": "#d4d8de",
    "link": "#0b57a4",
    "ok": "#0072b2",
    "refused": "#b84a00",
    "unknown": "#8b3a78",
    "fault": "#e2e4e9",
    "fault-edge": "#eef0f3",
    "verdict-ok": "#00694a",
    "verdict-broken": "#b3261e",
    "verdict-inconclusive": "#7a5a00",
}
DARK: Mapping[str, str] = {
    "paper": "#14171b",
    "card": "#1c2026",
    "ink": "#e8eaed",
    "faint": "#a8b0bb",
    "line": "#3a414b",
    "link": "#8ec5ff",
    "ok": "#56b4e9",
    "refused": "#ff9d4d",
    "unknown": "#e39bd0",
    "fault": "#363d48",
    "fault-edge": "#262c34",
    "verdict-ok": "#4fd1a5",
    "verdict-broken": "#ff8a80",
    "verdict-inconclusive": "#f2c94c",
}
