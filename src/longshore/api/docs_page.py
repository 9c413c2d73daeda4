"""`GET /docs`: the page that shows the OpenAPI document."""

import base64
import hashlib
from importlib import resources
from pathlib import Path

from litestar import MediaType, Response, get

from longshore.api.static import static_files

ASSETS = Path(str(resources.files("swagger_ui") / "static"))

START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null})'
PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Longshore API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script>{START}</script>
</body>
</html>
"""
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    f"script-src 'self' 'sha256-{base64.b64encode(hashlib.sha256(START.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@get("/docs", include_in_schema=False, media_type=MediaType.HTML)
async def get_docs() -> Response[str]:
    """Return the page that shows the document. It loads nothing from other hosts and runs its own script alone."""
    return Response(PAGE, headers={"Content-Security-Policy": POLICY})


assets = static_files("/docs/assets", ASSETS, ("swagger-ui-bundle.js", "swagger-ui.css"))
