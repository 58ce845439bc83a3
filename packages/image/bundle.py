"""Writes the config.json of a bundle for runc from an unpacked image and a Compose file: bundle.py BUNDLE COMPOSE.

Understands what the files in `compose` have. Relative sources of volumes are beside BUNDLE. The network is that of the
process that runs runc, so ports need not be published.
"""

import json
import pathlib
import sys

import yaml

bundle, compose = map(pathlib.Path, sys.argv[1:])
(service,) = yaml.safe_load(compose.read_text())["services"].values()
known = {"image", "container_name", "restart", "ports", "volumes", "command", "user", "read_only", "tmpfs", "environment"}
if unknown := service.keys() - known:
    sys.exit(f"{compose}: cannot try {unknown}")

config = json.loads((bundle / "config.json").read_text())
process = config["process"]
process["terminal"] = False
for kind in ("bounding", "effective", "permitted", "inheritable", "ambient"):
    # Those of a container that may switch to another user, as Docker grants them.
    granted = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]
    process["capabilities"][kind] = granted if kind in ("bounding", "effective", "permitted") else []
if "command" in service:
    process["args"] = service["command"].split()
given = dict(line.split("=", 1) for line in process["env"] + service.get("environment", []))
process["env"] = [f"{name}={value}" for name, value in given.items()]
if "user" in service:
    user, group = map(int, service["user"].split(":"))
    process["user"] = {"uid": user, "gid": group}
    for kind in ("effective", "permitted"):
        process["capabilities"][kind] = []
config["root"]["readonly"] = service.get("read_only", False)
for volume in service.get("volumes", []):
    source, target, *flags = volume.split(":")
    options = ["bind", *(flags or ["rw"])]
    source = str(bundle.parent / source)
    config["mounts"].append({"destination": target, "type": "none", "source": source, "options": options})
for target in service.get("tmpfs", []):
    config["mounts"].append({"destination": target, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]})
spaces = config["linux"]["namespaces"]
config["linux"]["namespaces"] = [space for space in spaces if space["type"] not in ("network", "user")]
config["linux"].pop("uidMappings", None)
config["linux"].pop("gidMappings", None)
(bundle / "config.json").write_text(json.dumps(config, indent=1))
