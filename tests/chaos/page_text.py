"""A page of HTML as tests look at it: elements, their attributes and the text in them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})


@dataclass
class Element:
    """One element; `parts` are texts and elements in order."""

    tag: str
    attributes: dict[str, str]
    parts: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Everything it says, spaces as one."""
        return " ".join(" ".join(part if isinstance(part, str) else part.text for part in self.parts).split())

    def all(self, tag: str = "") -> Iterator[Element]:
        """Elements inside, itself included, in the order of the page; all of them, or those of `tag`."""
        if not tag or self.tag == tag:
            yield self
        for part in self.parts:
            if isinstance(part, Element):
                yield from part.all(tag)

    def by_id(self, id: str) -> Element:
        """The element of that name."""
        (found,) = [element for element in self.all() if element.attributes.get("id") == id]
        return found

    def rows(self) -> list[list[str]]:
        """The texts of a table's cells."""
        return [[cell.text for cell in row.parts if isinstance(cell, Element)] for row in self.all("tr")]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].parts.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].parts.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)


def page_of(html: str) -> Element:
    """The whole page. Fails where an element is not closed, or another one is."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == [reader.root], f"not closed: {[element.tag for element in reader.open[1:]]}"
    return reader.root
