"""A strict reader of CSV after RFC 4180, which distinguishes an empty string from NULL."""


class NotCsvError(AssertionError):
    """The text is not what RFC 4180 describes."""


def read(data: bytes) -> list[list[str | None]]:
    """Return the records of a file, CRLF after each. A field without quotes and without content is None."""
    text = data.decode("utf-8")
    records: list[list[str | None]] = []
    at = 0
    while at < len(text):
        record: list[str | None] = []
        while True:
            value, at = _field(text, at)
            record.append(value)
            if text.startswith(",", at):
                at += 1
            elif text.startswith("\r\n", at):
                at += 2
                break
            else:
                raise NotCsvError(f"expected a comma or CRLF at {at}: {text[at : at + 20]!r}")
        records.append(record)
    return records


def _field(text: str, at: int) -> tuple[str | None, int]:
    if not text.startswith('"', at):
        ends = (text.find(mark, at) for mark in ',"\r\n')
        end = min((found for found in ends if found >= 0), default=len(text))
        return text[at:end] or None, end
    parts = []
    while True:
        end = text.find('"', at + 1)
        if end < 0:
            raise NotCsvError(f"the quote at {at} is never closed")
        parts.append(text[at + 1 : end])
        at = end + 1
        if not text.startswith('"', at):
            return '"'.join(parts), at
