"""How pages and static files reach the browser: compressed, hashed, and with a start that says what is missing."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

ROOT = Path(__file__).resolve().parents[1]
HASH = r"\.[0-9a-f]{12}\."
SPECIFIER = re.compile(r"""(?:\bfrom\s*|\bimport\s*\(?\s*)["'](\.{1,2}/[^"']+)["']""")
ASK = """
import json, sys
from django.test import Client
import config.wsgi
for path in sys.argv[1:]:
    answer = Client().get(path, headers={"accept-encoding": "gzip"})
    headers = {name.lower(): value for name, value in answer.headers.items()}
    print(json.dumps({"status": answer.status_code, "headers": headers, "body": b"".join(answer).hex()}))
"""


def run(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATA_DIR": str(data_dir), "STATIC_HASHED": "yes", "ALLOWED_HOSTS": "testserver"}
    environment |= {"DJANGO_SETTINGS_MODULE": "config.settings"}
    environment.pop("DATABASE_URL", None)
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with collected static files."""
    data_dir = tmp_path_factory.mktemp("collected")
    result = run(data_dir, "manage.py", "collectstatic", "--noinput", "--verbosity", "0")
    assert result.returncode == 0, result.stderr
    return data_dir


def manifest_of(data_dir: Path) -> dict[str, str]:
    paths: dict[str, str] = json.loads((data_dir / "static" / "staticfiles.json").read_text())["paths"]
    return paths


def test_every_module_imports_its_parts_under_their_hashed_names(collected):
    static = collected / "static"
    scripts = {name: path for name, path in manifest_of(collected).items() if re.match(r"annotation/.*\.js$", name)}
    imports = [
        (name, specifier, (static / path).parent / specifier)
        for name, path in scripts.items()
        for specifier in SPECIFIER.findall((static / path).read_text())
    ]
    unhashed = [(name, specifier) for name, specifier, _path in imports if not re.search(HASH, specifier)]
    lost = [(name, specifier) for name, specifier, path in imports if not path.resolve().is_file()]
    assert (unhashed, lost) == ([], [])
    assert len(imports) > 20


def test_collected_files_lie_there_compressed_once_and_well(collected):
    static, paths = collected / "static", manifest_of(collected)
    for name in ("annotation/rank.js", "annotation/app.css"):
        packed = (static / f"{paths[name]}.gz").read_bytes()
        assert gzip.decompress(packed) == (static / paths[name]).read_bytes()
        assert len(packed) < 0.5 * (static / paths[name]).stat().st_size


def test_pages_name_hashed_files_which_are_served_compressed_and_for_ever(collected):
    sheet = manifest_of(collected)["annotation/app.css"]
    result = run(collected, "-c", ASK, "/login/", f"/static/{sheet}")
    assert result.returncode == 0, result.stderr
    page, style = [json.loads(line) for line in result.stdout.splitlines()]
    assert page["headers"]["content-encoding"] == "gzip"
    assert f"/static/{sheet}" in gzip.decompress(bytes.fromhex(page["body"])).decode()
    assert style["status"] == 200
    assert style["headers"]["content-encoding"] == "gzip"
    assert style["headers"]["cache-control"] == "max-age=315360000, public, immutable"
    assert gzip.decompress(bytes.fromhex(style["body"])) == (collected / "static" / sheet).read_bytes()


@pytest.mark.parametrize("entry", ["wsgi", "asgi"])
def test_the_start_stops_where_nothing_was_collected(tmp_path, entry):
    result = run(tmp_path, "-c", f"import config.{entry}")
    assert result.returncode != 0
    assert "STATIC_HASHED=yes, but" in result.stderr
    assert "holds no collected static files. Run `manage.py collectstatic --noinput`" in result.stderr


def test_the_start_stops_where_the_collected_files_are_of_another_version(tmp_path, collected):
    copy = tmp_path / "static"
    copy.symlink_to(collected / "static")
    assert run(tmp_path, "-c", "import config.wsgi").returncode == 0
    old = (collected / "static" / "annotation" / "rank.js").read_text()
    try:
        (collected / "static" / "annotation" / "rank.js").write_text("// of last year\n")
        result = run(tmp_path, "-c", "import config.wsgi")
    finally:
        (collected / "static" / "annotation" / "rank.js").write_text(old)
    assert result.returncode != 0
    assert "holds other static files than this version has, such as annotation/rank.js." in result.stderr


def test_without_hashing_files_come_from_their_source_under_their_own_names(client: Client, db: None):
    body = client.get(reverse("login")).content.decode()
    assert "/static/annotation/app.css" in body
    assert client.get("/static/annotation/app.css").status_code == 200


def test_pages_are_compressed_for_who_asks_and_their_length_betrays_nothing(client: Client, db: None):
    """Random bytes are added (up to 100), so that the length does not betray what is in the page."""
    answers = [client.get(reverse("login"), headers={"accept-encoding": "gzip"}) for _number in range(8)]
    assert {answer.headers["Content-Encoding"] for answer in answers} == {"gzip"}
    assert "Accept-Encoding" in answers[0].headers["Vary"]
    assert b"csrfmiddlewaretoken" in gzip.decompress(answers[0].content)
    assert len({len(answer.content) for answer in answers}) > 1
    assert "Content-Encoding" not in client.get(reverse("login")).headers
