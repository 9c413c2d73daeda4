"""Static files: scripts and style sheets of the console and of the API's documentation."""

import mimetypes
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec
from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from longshore.api.conditional import none_match, representation_tag
from longshore.api.service import AnyRequest


class Asset(msgspec.Struct, frozen=True):
    """A file with its entity tag and media type."""

    content: bytes
    tag: str
    media_type: str


def static_files(path: str, folder: Path, names: Iterable[str]) -> HTTPRouteHandler:
    """Return the endpoint `path/NAME` of files in `folder`. No other name reaches the file system."""
    known = {name: folder / name for name in names}

    @get(f"{path}/{{name:str}}", include_in_schema=False)
    async def get_file(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
        if name not in known:
            raise NotFoundException
        asset = _read(known[name])
        headers = {"ETag": asset.tag, "Cache-Control": "no-cache"}
        if none_match(request, asset.tag):
            return Response(b"", status_code=304, headers=headers)
        return Response(asset.content, headers=headers, media_type=asset.media_type)

    return get_file


@cache
def _read(path: Path) -> Asset:
    content = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Asset(content, representation_tag(content), media_type)
