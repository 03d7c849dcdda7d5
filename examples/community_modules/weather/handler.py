"""#weather CITY [MONTH]: what the weather is usually like, from a table in the package. Nobody is asked."""

from __future__ import annotations

import calendar
import datetime
import json
from pathlib import Path
from typing import Any

CLIMATE: dict[str, Any] = json.loads((Path(__file__).parent / "climate.json").read_text(encoding="utf-8"))
CITIES = {name.casefold(): name for name in CLIMATE}
MONTHS = {name.casefold(): n for n, name in enumerate(calendar.month_name) if n}
MONTHS |= {name.casefold(): n for n, name in enumerate(calendar.month_abbr) if n}


def handler(event: dict[str, Any], context: Any) -> str:
    words = event["trigger"]["args"]
    month = MONTHS.get(words[-1].casefold()) if len(words) > 1 else None
    city = CITIES.get(" ".join(words[:-1] if month else words).casefold())
    if city is None:
        return f"I know the weather of {', '.join(CLIMATE)}. Try: #weather Tokyo may"
    month = month or datetime.datetime.now(datetime.UTC).month
    usual, n = CLIMATE[city], month - 1
    return (
        f"{city} in {calendar.month_name[month]}: usually {usual['low'][n]} to {usual['high'][n]} °C,"
        f" with rain or snow on {usual['wet'][n]} days."
    )
