"""Static files: scripts and style sheets of the console and of the API's documentation."""

import mimetypes
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from longshore.api.conditional import none_match, representation_tag
from longshore.api.service import AnyRequest


def static_files(path: str, folder: Path, names: Iterable[str]) -> HTTPRouteHandler:
    """Return the endpoint `path/NAME` of files in `folder`. No other name reaches the file system."""
    known = {name: folder / name for name in names}

    @get(f"{path}/{{name:str}}", include_in_schema=False)
    async def get_file(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
        if name not in known:
            raise NotFoundException
        content, tag = _read(known[name])
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if none_match(request, tag):
            return Response(b"", status_code=304, headers=headers)
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(content, headers=headers, media_type=media_type)

    return get_file


@cache
def _read(path: Path) -> tuple[bytes, str]:
    """Return the content of a file and its entity tag."""
    content = path.read_bytes()
    return content, representation_tag(content)
