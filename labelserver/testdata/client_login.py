"""Logs in with the unmodified Python client of MONAI Label, works with one client object, and prints one JSON line.

usage: client_login.py SERVER USER PASSWORD IMAGE
One object for all calls is what a script does, and a trap: the client leaves the content-length of an upload among the headers of the
calls after it.
"""
import json
import sys
import tempfile

from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

server, user, password, image = sys.argv[1:5]
client = MONAILabelClient(server, tmpdir=tempfile.mkdtemp(), client_id="login")
out = {"enabled": client.auth_enabled()}


def status(call):
    try:
        call()
        return 200
    except MONAILabelClientException as e:
        return int(str(e).split("Status: ")[1].split(";")[0]) if "Status: " in str(e) else getattr(e, "status_code", str(e))


out["before"] = status(client.info)
out["wrong"] = status(lambda: client.auth_token(user, "wrong"))
token = client.auth_token(user, password)
out["type"] = token["token_type"]
client.update_auth(token)
out["valid"] = client.auth_valid_token()
out["name"] = client.info()["name"]
out["uploaded"] = client.upload_image(image, "mine")["image"]
out["after_upload"] = status(client.info)
out["sample"] = bool(client.next_sample("first", {})["id"])
out["after_sample"] = status(client.datastore)
out["train"] = status(lambda: client.train_start("scribbles", {}))
out["running"] = client.train_status(check_if_running=True)
client.update_auth({"token_type": "Bearer", "access_token": "made-up"})
out["made_up"] = status(client.info)
out["made_up_valid"] = client.auth_valid_token()
print(json.dumps(out))
