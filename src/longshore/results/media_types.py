"""The media type of a result, by the extension of its name."""

MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "jws": "application/jose",  # RFC 7515, section 9.2.1
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "gz": "application/gzip",
    "zst": "application/zstd",
}


def media_type(file_name: str) -> str:
    """Return the media type of a result; `application/octet-stream` where its extension is unknown."""
    return MEDIA_TYPES.get(file_name.rpartition(".")[2], "application/octet-stream")
