"""PDF files: text by the headings of the outline or by page, without what heads and ends each page."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pypdf
import pytest

from assistant.knowledge.reading.folders import read_file

WORDS = ["", "One", "Two", "Three", "Four", "Five"]


def pdf(pages: list[list[str]], outline: Sequence[tuple[str, int, int | None]] = ()) -> bytes:
    """A PDF file with these lines on its pages. The outline has titles, pages, and the entries above."""
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = pypdf.PdfWriter()
    for lines in pages:
        page = writer.add_blank_page(300, 800)
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F"): font})}
        )
        content = DecodedStreamObject()
        shown = "".join(f"({line}) Tj 0 -20 Td " for line in lines)
        content.set_data(f"BT /F 12 Tf 20 780 Td {shown}ET".encode())
        page[NameObject("/Contents")] = writer._add_object(content)
    entries: list[Any] = []
    for title, number, above in outline:
        entries.append(
            writer.add_outline_item(
                title=title, page_number=number, parent=None if above is None else entries[above]
            )
        )
    writer.add_metadata({"/Title": "The manual"})
    data = io.BytesIO()
    writer.write(data)
    return data.getvalue()


def read(folder: Path, data: bytes) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    (folder / "manual.pdf").write_bytes(data)
    warnings: list[str] = []
    found = read_file(folder / "manual.pdf", folder, base_url="https://docs.example", warn=warnings.append)
    return [(each.title, each.text, each.location, each.url) for each in found], warnings


def test_a_manual_with_an_outline(tmp_path: Path) -> None:
    pages = [
        ["Contents", "Boxes . . . . . . . 2"],
        ["1  Boxes", "A box *holds* things."],
        ["More.", "1.1 Open", "Pull."],
    ]
    data = pdf(pages, [("Boxes", 1, None), ("Open", 2, 0)])
    url = "https://docs.example/manual.pdf"
    assert read(tmp_path, data) == (
        [
            ("The manual", "Contents", "manual.pdf, page 1", f"{url}#page=1"),
            (
                "The manual › Boxes",
                "A box \\*holds\\* things.\n\nMore.",
                "manual.pdf, page 2",
                f"{url}#page=2",
            ),
            ("The manual › Boxes › Open", "Pull.", "manual.pdf, page 3", f"{url}#page=3"),
        ],
        [],
    )


def test_a_manual_without_an_outline_has_a_passage_for_each_page(tmp_path: Path) -> None:
    pages = [
        ["The store", f"{WORDS[number]}.", "and more", "of it", f"Page {number} of 5"]
        for number in range(1, 6)
    ]
    passages, _ = read(tmp_path, pdf(pages))
    assert [(title, text, place) for title, text, place, _ in passages] == [
        (f"The manual › Page {number}", f"{WORDS[number]}.\nand more\nof it", f"manual.pdf, page {number}")
        for number in range(1, 6)
    ]


@pytest.mark.parametrize("data", [b"", b"%PDF-1.4\n", b"%PDF-1.4\n" + b"1 0 obj <<" * 10_000, b"\0" * 1000])
def test_what_is_no_pdf_file_is_refused(tmp_path: Path, data: bytes) -> None:
    passages, (warning,) = read(tmp_path, data)
    assert passages == []
    assert warning.startswith("manual.pdf is left out, since it is not a PDF file that can be read")


def test_pictures_of_pages_are_refused(tmp_path: Path) -> None:
    assert read(tmp_path, pdf([[], []]))[1] == [
        "manual.pdf is left out, since it has no text, only pictures."
    ]


def test_a_cut_file_does_no_harm(tmp_path: Path) -> None:
    data = pdf([["Some text"]] * 5, [("Some text", 3, None)])
    for size in range(0, len(data), 37):
        read(tmp_path, data[:size])


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    _, (warning,) = read(tmp_path, b"%PDF-1.4")
    assert "`uv sync --extra pdf`" in warning
