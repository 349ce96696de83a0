"""Runs on a rented machine, on its own Python alone: ends the rent when no engine is there any more.

It asks the engine each minute whether it still has this worker, and destroys its own instance when there was no yes for
NULLWORKER_SILENCE_S seconds, unless the worker is held. The key it uses is the instance's own. Called with "stop", it
stops the instance: its worker has ended.
"""

import base64
import json
import os
import ssl
import sys
import tempfile
import time
import urllib.request

E = os.environ


def call(url: str, method: str, body: dict[str, object], headers: dict[str, str]) -> int:
    tls = None
    if url.startswith("https:") and "Authorization" not in headers and E.get("NULL_ENGINE_CA"):
        ca = ssl.DER_cert_to_PEM_cert(base64.urlsafe_b64decode(E["NULL_ENGINE_CA"]))
        tls = ssl.create_default_context(cadata=ca)
        if E.get("NULL_CLIENT_CERTIFICATE"):
            with tempfile.NamedTemporaryFile() as file:
                file.write(base64.urlsafe_b64decode(E["NULL_CLIENT_CERTIFICATE"]))
                file.flush()
                tls.load_cert_chain(file.name)
    data = json.dumps(body).encode() if method != "GET" else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    with urllib.request.urlopen(request, timeout=20, context=tls) as answer:
        return 1 if method != "GET" else json.loads(answer.read(100_000)).get("held") is True


def is_yes(url: str, method: str = "GET", body: "dict[str, object] | None" = None) -> bool:
    try:
        return bool(call(url, method, body or {}, {}))
    except Exception:
        return False


def end(method: str, body: dict[str, object]) -> None:
    url = E.get("NULLWORKER_VAST_URL", "https://console.vast.ai") + f"/api/v0/instances/{E['NULLWORKER_INSTANCE_ID']}/"
    while True:
        try:
            call(url, method, body, {"Authorization": "Bearer " + E["CONTAINER_API_KEY"]})
        except Exception as error:
            print("dead man's switch:", error, flush=True)
        time.sleep(60)


def watch(every_s: float) -> None:
    asked = {"worker_id": int(E["CONTAINER_ID"]), "mtoken": E["MASTER_TOKEN"], "requests": []}
    heard = time.monotonic()
    while time.monotonic() - heard < float(E["NULLWORKER_SILENCE_S"]):
        engines = [each.strip().rstrip("/") for each in E["REPORT_ADDR"].split(",")]
        is_known = any(is_yes(each + E["NULLWORKER_ASK_PATH"], "POST", asked) for each in engines)
        if is_known or is_yes("http://127.0.0.1:" + E.get("NULL_CONTROL_PORT", "18999") + "/reservation"):
            heard = time.monotonic()
        time.sleep(every_s)
    print("dead man's switch: no engine has had this worker for too long; the instance ends", flush=True)
    end("DELETE", {})


if __name__ == "__main__":
    if sys.argv[1:] == ["stop"]:
        end("PUT", {"state": "stopped"})
    watch(float(E.get("NULLWORKER_SWITCH_S", "60")))
