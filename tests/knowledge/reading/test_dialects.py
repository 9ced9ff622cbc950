"""The dialects of Markdown, as the site generators that have them write them: words remain, marks go."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.knowledge.reading.dialects import without_marks
from tests.knowledge.reading.test_folders import one, read


def shown(tmp_path: Path, text: str) -> str:
    return one(tmp_path, "a.md", text).text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!!! note\n    Hello.\n\n    More.\n\nAfter.", "**Note**\n\nHello.\n\nMore.\n\nAfter."),
        ('!!! warning inline end "Careful"\n    Hello.', "**Careful**\n\nHello."),
        ('??? tip ""\n    Hello.', "Hello."),
        ("???+ custom\n    Hello.", "Hello."),
        ('=== "pip"\n\n    ```sh\n    pip\n    ```\n\n=== "uv"\n\n    uv',
         "**pip**\n\n```sh\npip\n```\n\n**uv**\n\nuv"),
        ('!!! note\n    !!! tip "In"\n        Deep.\n    Out.', "**Note**\n\n**In**\n\nDeep.\nOut."),
        (":::tip\nHello.\n:::\n\nAfter.", "**Tip**\n\nHello.\n\nAfter."),
        (":::note[Read *this*]\nHello.\n:::", "**Read *this***\n\nHello."),
        ("::: warning Mind\nHello.\n:::", "**Mind**\n\nHello."),
        ('::: {.callout-note title="T"}\nHello.\n:::', "**T**\n\nHello."),
        ("::: acme.client.Client\n    options:\n      x: 1\n\nAfter.", "After."),
        ("/// note | Title\nHello.\n///", "**Title**\n\nHello."),
        ("//// tab | Linux\n/// tip\nHello.\n///\n////", "**Linux**\n\n**Tip**\n\nHello."),
        ("> [!NOTE]\n> Hello.", "> **Note**\n>\n> Hello."),
        ("> [!WARNING] Mind\n> Hello.", "> **Mind**\n>\n> Hello."),
        ("```{note}\n:class: x\nHello.\n```", "**Note**\n\nHello."),
        ("````{tab} One\n```{code-block} py\n:linenos:\nx = 1\n```\n````", "**One**\n\n```py\nx = 1\n```"),
        (":::{admonition} Mind\n:::{tip}\nIn.\n:::\nOut.\n:::", "**Mind**\n\n**Tip**\n\nIn.\nOut."),
        ("Hello.\n\n```{toctree}\n:hidden:\na\nb\n```\n\nAfter.", "Hello.\n\nAfter."),
        ("```{versionadded} 3.2\n```\n\nAfter.", "**New in version 3.2**\n\nAfter."),
        ("```{eval-rst}\n.. note:: See :func:`acme.run`.\n```", "Note: See ``acme.run``."),
        ("```{eval-rst}\n.. click:example::\n\n   @run\n   def f(): ...\n```", "    @run\n    def f(): ..."),
        ("<Intro>\n\nHello.\n\n</Intro>", "Hello."),
        ("<Pitfall>\n\nHello.\n\n</Pitfall>", "**Pitfall**\n\nHello."),
        ('<TabItem value="x" label="npm">\n\nHello.\n\n</TabItem>', "**npm**\n\nHello."),
        ('<Aside type="caution">Hello.</Aside>', "Hello."),
        ("<Card\n  href='/x'\n  title=\"Go\"\n/>\n\nAfter.", "**Go**\n\nAfter."),
        ("import A from './a'\nimport {\n  B\n} from 'b'\n\nHello.", "Hello."),
        ("export const a = [\n  1,\n]\n\nHello.", "Hello."),
        ("Hello {/* aside */}there.\n\n{/*\nhidden\n*/}\n\nAfter.", "Hello there.\n\nAfter."),
        ("Hello.<!-- ignore\n--> After.", "Hello. After."),
        ("<script setup>\nlet a\n</script>\n\nHello.", "Hello."),
        ("{% note %}\nHello.\n{% endnote %}", "**Note**\n\nHello."),
        ('{% hint style="warning" %}\nHello.\n{% endhint %}', "**Warning**\n\nHello."),
        ("{% raw %}\n```\n{{ a }}\n```\n{% endraw %}", "```\n{{ a }}\n```"),
        ("{% highlight ruby linenos %}\nputs 1\n{% endhighlight %}\n\nAfter.",
         "`````ruby\nputs 1\n`````\n\nAfter."),
        ("{{< highlight go >}}\na := 1\n{{< /highlight >}}", "`````go\na := 1\n`````"),
        ('{{% alert title="Mind" color="info" %}}\nHello.\n{{% /alert %}}', "**Mind**\n\nHello."),
        ('{{< tab "npm" >}}\nHello.\n{{< /tab >}}', "**npm**\n\nHello."),
        ('Run a {{< glossary_tooltip text="pod" term_id="pod" >}}.', "Run a pod."),
        ('See [it]({{< ref "a.md" >}}) at {{ site.url }}here.', "See it at here."),
        ("{{< img\n  src='a'\n>}}\n\nHello.", "Hello."),
        ("{: .note }\nHello.", "**Note**\n\nHello."),
        ("1. TOC\n{:toc}\n\nHello.", "Hello."),
        ("See [one](b.md#x), [two](https://a.b), [`three`][x] and [four].\n\n[x]: c.md\n[four]: d.md",
         "See one, [two](https://a.b), `three` and four."),
        ("![A chart](a.png){ width=300 } of [it](b.md){:target=\"_blank\"}", "A chart of it"),
        ("Use {ref}`the guide <guide>` and {func}`~acme.run`.", "Use the guide and ``run``."),
        ("a&nbsp;b &amp; c &lt;d&gt; &rarr;", "a b & c \\<d> →"),
        ("Press <kbd>Ctrl</kbd>, <b>now</b><br/>or soon.", "Press `Ctrl`, now or soon."),
        ("`<b> {{ x }} &amp;` and Vec<T>", "`<b> {{ x }} &amp;` and Vec<T>"),
        ("```py title=\"a.py\" hl_lines=\"1\"\nx = 1 # (1)!\n```", "`a.py`:\n\n```py\nx = 1\n```"),
        ("```js src/App.js active\nx\n```", "`src/App.js`:\n\n```js\nx\n```"),
        ("```rust,ignore\nlet x;\n```", "```rust\nlet x;\n```"),
        ("<details>\n<summary>More</summary>\n\nHello.\n\n</details>", "More\n\nHello."),
        ("    <div> {% raw %} [a](b)", "    <div> {% raw %} [a](b)"),
    ],
)  # fmt: skip
def test_a_dialect_becomes_words(tmp_path: Path, text: str, expected: str) -> None:
    assert shown(tmp_path, f"# Title\n\nFirst.\n\n{text}\n") == f"First.\n\n{expected}"


@pytest.mark.parametrize(
    ("heading", "name", "anchor"),
    [
        ("## Caveats {/*the-caveats*/}", "Caveats", "the-caveats"),
        ("## Caveats { #the-caveats .new }", "Caveats", "the-caveats"),
        ("## [Caveats](a.md) &amp; more", "Caveats & more", None),
        ('<h2 id="the-caveats">Caveats</h2>', "Caveats", "the-caveats"),
        ("(the-caveats)=\n## Caveats", "Caveats", "the-caveats"),
    ],
)
def test_headings_have_words_and_anchors(tmp_path: Path, heading: str, name: str, anchor: str | None) -> None:
    passage = one(tmp_path, "a.md", f"{heading}\n\nHello.\n", base_url="https://a.example")
    assert passage.name == name
    assert anchor is None or passage.url == f"https://a.example/a.html#{anchor}"


def test_lines_keep_their_numbers(tmp_path: Path) -> None:
    text = "<!--\n\n-->\n!!! note\n\n    Hello.\n\n## Two\n\n```{note}\nBye.\n```\n\n## Three\n\nEnd.\n"
    assert [each.location for each in read(tmp_path, "a.md", text)] == ["a.md:4", "a.md:10", "a.md:16"]


@given(st.text(alphabet="ab `*[](){}<>!&;:/=%#\"'-\n", max_size=120))
def test_a_paragraph_keeps_its_lines(text: str) -> None:
    assert without_marks(text).count("\n") == text.count("\n")
