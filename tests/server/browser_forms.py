"""Read the forms of a page as a browser does: which fields does a form send?"""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"input", "br", "hr", "img", "link", "meta", "use", "path", "circle", "rect", "line"}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, list[str]]] = []
        self._inside: list[dict[str, list[str]]] = []
        self._templates = 0
        self._area = ""
        self._select = ""
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "template":
            self._templates += 1
        if self._templates:
            return
        if tag == "form":
            self._inside.append({})
            self.forms.append(self._inside[-1])
        elif not self._inside:
            return
        elif tag == "input" and given.get("name"):
            if given.get("type") in ("radio", "checkbox") and "checked" not in given:
                return
            self._add(given["name"], given.get("value", "on"))
        elif tag == "textarea":
            self._area, self._text = given.get("name", ""), []
        elif tag == "select":
            self._select = given.get("name", "")
        elif tag == "option" and self._select and "selected" in given:
            self._inside[-1][self._select] = [given.get("value", "")]

    def handle_data(self, data: str) -> None:
        if self._area and not self._templates:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "template":
            self._templates -= 1
        elif self._templates:
            return
        elif tag == "form":
            self._inside.pop()
        elif tag == "textarea" and self._area:
            # A browser ignores one line break at the start, and sends others as CRLF.
            text = "".join(self._text).removeprefix("\n")
            self._add(self._area, text.replace("\n", "\r\n"))
            self._area = ""
        elif tag == "select":
            self._inside[-1].setdefault(self._select, [""])
            self._select = ""

    def _add(self, name: str, value: str) -> None:
        self._inside[-1].setdefault(name, []).append(value)


def sent(html: str) -> list[dict[str, list[str]]]:
    """Return the fields that each form of a page sends, in the order of the forms."""
    page = _Page()
    page.feed(html)
    page.close()
    return page.forms
