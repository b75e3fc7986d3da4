# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Triton's log says about why the server does not start: a table of signatures. PRIVATE to the collection.

"run" in a source means that server 2.51.0 wrote the line when it was made to fail in that way; core, server and
python_backend are the repositories of triton-inference-server in which the text stands.
"""

from __future__ import annotations

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Explanation:
    """``cause``: one machine word; ``why`` and ``todo``: sentences; ``certain``: trying again cannot help."""

    cause: str
    why: str
    todo: str
    certain: bool = True


@dataclasses.dataclass(frozen=True)
class _Signature:
    pattern: str
    explanation: Explanation


def _sign(pattern: str, cause: str, why: str, todo: str, certain: bool = True) -> _Signature:
    return _Signature(pattern, Explanation(cause, why, todo, certain))


REFUSED_BY_S3 = (
    "Triton prints this for wrong keys, a wrong region, a bucket that does not exist, and keys without s3:ListBucket alike. "
    "Check the four, for example with `aws s3 ls BUCKET --endpoint-url URL` and the same keys."
)

#: The first that is found in the log explains it, so the more telling one stands first.
SIGNATURES = (
    # run, against a closed port and over TLS against a plain one: after about 50 s of silent attempts, so it is certain
    _sign(
        r"S3 filesystem client.*curlCode: 7\b",
        "s3_access",
        "no connection to the S3 endpoint of the model repository came about",
        "Check host, port and scheme in the repository path (s3://http://HOST:PORT/BUCKET/PATH; https only where TLS is spoken), and that the endpoint runs.",
    ),
    # run, with a host that does not exist
    _sign(
        r"S3 filesystem client.*curlCode: 6\b",
        "s3_access",
        "the host name of the S3 endpoint cannot be resolved in the pod",
        "Check the host in the repository path; a Service in another namespace is NAME.NAMESPACE.svc.",
    ),
    # core src/filesystem/implementations/s3.h hands on curl's codes: 28 timeout; 35, 51, 58 and 60 TLS
    _sign(
        r"S3 filesystem client.*curlCode: (?:35|51|58|60)\b",
        "s3_access",
        "TLS with the S3 endpoint of the model repository failed",
        "Check that the endpoint speaks TLS on that port (otherwise s3://http://HOST:PORT) and that the image trusts its certificate authority.",
    ),
    # run, with a wrong secret, an unknown key, a key without rights and a missing bucket: the same line each time
    _sign(
        r"Unable to create S3 filesystem client", "s3_access", "the S3 storage refused access to the model repository", REFUSED_BY_S3, certain=False
    ),
    # core src/filesystem/implementations/s3.h
    _sign(
        r"Could not get MetaData for (?:bucket|object)",
        "s3_access",
        "the S3 storage refused access to the model repository",
        REFUSED_BY_S3,
        certain=False,
    ),
    # run, with a prefix that holds nothing and with a missing folder
    _sign(
        r"repository path is not a valid directory|creating server: .*failed to stat file",
        "repository_path",
        "the model repository's path does not exist, or holds nothing",
        "Check bucket and prefix: the path must hold one folder for each model. An endpoint without its port is read as a bucket's name.",
    ),
    # core src/model_repository_manager/model_repository_manager.cc
    _sign(
        r"failed to poll from model repository",
        "model_load",
        "a model that is to be loaded is not in the model repository",
        "Check the names given to --load-model against the folders of the repository.",
    ),
    # run, with an unknown option
    _sign(
        r"unrecognized option '(?P<detail>[^']+)'",
        "config",
        "this version of Triton does not know the option {detail}",
        "Remove the argument, or choose an image whose Triton has it.",
    ),
    # run, with a port that was taken
    _sign(
        r"failed to start (?P<detail>HTTP|GRPC|Metrics) service|Socket '[^']+' already in use|cannot listen to .* at the same address and port",
        "port",
        "a port that Triton wants to listen on is taken, or given twice",
        "Give Triton's HTTP, gRPC and metrics services different ports, and no host network that others use.",
    ),
    # python_backend src/stub_launcher.cc
    _sign(
        r"Failed to give execute permission to",
        "permission",
        "the Python backend may not make its stub executable",
        "The files under /opt/tritonserver/backends/python must belong to the user that the container runs as (runAsUser).",
    ),
    # the kernel's text for a program of another processor, handed on by runc and by shells
    _sign(
        r"(?i)exec format error",
        "image",
        "the program is for another kind of processor than the node's, or no program at all",
        "Use an image for this node's processor (docker manifest inspect IMAGE tells which there are), or another node.",
    ),
    # nginx src/core/ngx_log.c, the front's
    _sign(
        r"nginx: \[emerg\] (?P<detail>.+)",
        "front",
        "nginx could not start: {detail}",
        "Correct what the message says: the front's certificate and keys come from Secrets, everything else from the role's options.",
    ),
    # the image's entry point
    _sign(
        r"was built for NVIDIA Driver Release (?P<detail>[0-9.]+) or later",
        "gpu_driver",
        "the node's NVIDIA driver is too old for this image, which needs {detail} or later",
        "Update the driver on the node, or choose an older tag: mlserving.triton.triton_preflight knows which fits.",
        certain=False,
    ),
    # core src/cuda_utils.cc
    _sign(
        r"unable to get number of CUDA devices: (?P<detail>[^\"\n]+)",
        "gpu_driver",
        "Triton cannot ask for the GPUs: {detail}",
        "Check the driver on the node (nvidia-smi there and in the pod) and that it is new enough for the image.",
        certain=False,
    ),
    # the dynamic linker's text; server and stub are linked against these
    _sign(
        r"error while loading shared libraries: (?P<detail>[^:\s]+)",
        "image",
        "the image lacks the library {detail}, or it comes from the GPU driver and the pod has no GPU",
        "Use an image that has it; libcuda and libnvidia-ml come from the node's NVIDIA runtime when the pod requests a GPU.",
    ),
    # run, with several failures that have their own line above
    _sign(
        r"creating server: (?P<detail>.+)",
        "server_start",
        "Triton could not start: {detail}",
        "Look at the log lines below.",
        certain=False,
    ),
)

#: What Triton gives as the reason of a model -> what to do.
MODEL_CURES = (
    # run, with a model for a backend that the image lacks
    (
        r"unable to find backend library for backend '([^']+)'",
        "The image has no backend {0}: choose one that has it, or another format for the model.",
    ),
    # run, with a Python model that imports what is not there
    (r"No module named '([^']+)'", "The image has no Python package {0}: add it to the image, or give the model an EXECUTION_ENV_PATH."),
    # run, without a GPU
    (r"KIND_GPU but no GPUs", "Request a GPU for the pods, or use KIND_CPU in the model's instance_group."),
    # run, with a folder without a number in its name; empty folders do not exist on S3
    (r"at least one version must be available", "The model needs a folder named by a number, such as 1, that holds the model's file."),
    # run, with a config.pbtxt that does not parse
    (r"failed to read text proto", "Its config.pbtxt is not valid: correct it."),
    # run, with another name in config.pbtxt
    (r"directory name must equal model name", "Give the folder and the name in config.pbtxt the same text."),
    # python_backend src/shm_manager.cc
    (
        r"shared memory (?:key|pool)|No space left on device.*shm",
        "/dev/shm is too small: set triton_shm_size, or mount an emptyDir with medium Memory there and count it in the memory limit.",
    ),
    # core src/shared_library.cc
    (
        r"unable to load shared library: ([^\s:]+): cannot open shared object",
        "The image lacks the library {0}: use one that has it; libcuda and libnvidia-ml come from the node's NVIDIA runtime.",
    ),
    # python_backend src/stub_launcher.cc
    (
        r"Stub process '[^']+' is not healthy|waiting for the stub process",
        "The model's Python process died or hangs: look for its own words in the log, for the memory limit, and for what its initialize() waits for.",
    ),
    # core src/ensemble_scheduler/ensemble_utils.cc
    (r"which has no loaded version", "Correct the model that it depends on first."),
    # core src/cuda_utils.cc
    (
        r"less than the minimum supported of '?([0-9.]+)",
        "The GPU is too old for this image, which needs compute capability {0}: use another GPU or an older tag.",
    ),
    # onnxruntime core/graph/model.cc
    (
        r"(?i)unsupported model IR version|opset \d+ is under development",
        "The model was exported for a newer ONNX Runtime: export it for an older opset, or use a newer image.",
    ),
    # tensorrt_backend src/tensorrt.cc hands on TensorRT's refusal
    (
        r"(?i)plan file|deserialize.*engine",
        "TensorRT plans fit one version of TensorRT and one kind of GPU: build the plan with the image and the GPU that it is served with.",
    ),
    (r"(?i)out of memory|cudaMalloc", "The GPU's memory does not hold the models: fewer instances, fewer models, or a larger GPU."),
    (r"(?i)CUDA driver version is insufficient", "The node's NVIDIA driver is too old for this image: update it or choose an older tag."),
    (r"(?i)no space left on device", "The node's disk is full: models are copied to /tmp; give the pods more ephemeral storage."),
)
MODEL_TODO = "Correct the model and publish it again."
#: run: "failed to load 'x' version 1: REASON", "failed to load model 'x': REASON", "Poll failed for model directory 'x': REASON"
MODEL_FAILURE = re.compile(
    r"(?:failed to load '(?P<a>[^']+)' version \d+|failed to load model '(?P<b>[^']+)'|Poll failed for model directory '(?P<c>[^']+)'): (?P<reason>.+)"
)

SECRETS = (
    (re.compile(r"\b(?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{12,}\b"), "(redacted)"),
    (re.compile(r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)|Signature|Credential)=[^\s&,\"']+"), r"\1=(redacted)"),
    (
        re.compile(r"(?i)\b((?:aws_)?(?:secret(?:_access)?_key|session_token|(?:access_)?key_id))\b([\"']?\s*[=:]\s*[\"']?)[^\s\"',}]+"),
        r"\1\2(redacted)",
    ),
    (re.compile(r"(?i)\b(authorization:?\s+(?:bearer|basic)\s+)\S+"), r"\1(redacted)"),
    (re.compile(r"(://[^/\s:@]+:)[^/\s@]+@"), r"\1(redacted)@"),
)
#: What a server without a GPU always writes; it explains nothing.
NOISE = re.compile(r"initialize NVML|DCGM|pinned system memory|CudaDriverHelper")


def is_missing(text: str) -> bool:
    """Whether a log is only the kubelet's word that the container is gone meanwhile."""
    return text.startswith("unable to retrieve container logs for ")


def redact(text: str) -> str:
    """Return the text without anything that looks like a credential."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text


def explain(log: str) -> Explanation | None:
    """Return why the server ended, or None if the log has no known signature."""
    models = explain_models(log)
    if models:
        return models
    for signature in SIGNATURES:
        found = re.search(signature.pattern, log)
        if found:
            known = signature.explanation
            return dataclasses.replace(known, why=redact(known.why.format(detail=found.groupdict().get("detail") or "")))
    return None


def explain_models(log: str) -> Explanation | None:
    """Return which models keep a server that runs from being ready."""
    failures = model_failures(log)
    if not failures:
        return None
    named = "; ".join(f"model '{model}' could not be loaded: {reason}" for model, reason in failures.items())
    return Explanation("model_load", redact(named), " ".join(dict.fromkeys(_model_todo(reason) for reason in failures.values())))


def explain_fetching(log: str) -> Explanation | None:
    """Return why the init container of the model cache failed, in its own last words."""
    errors = re.findall(r"(?m)^error: (.+)$", log)
    if not errors:
        return None
    text = redact(errors[-1]).rstrip(".")
    cause = (
        "repository_path"
        if text.startswith("There is n")
        else "s3_access" if re.search(r"refuse|does not answer|not trusted|credentials", text) else "model_cache"
    )
    return Explanation(cause, text, "Correct what it says; it has tried again by itself where that could help.")


def explain_hanging(log: str) -> Explanation | None:
    """Return why a server that runs will never listen: the program of a Python model did not start, which Triton waits for."""
    found = re.search(r"triton_python_backend_stub: error while loading shared libraries: ([^\n]+)", log)
    if not found:
        return None
    why = f"Triton waits for its Python backend, whose program cannot load a library: {found[1]}"
    return Explanation(
        "image", why, "Use an image whose Python fits its Python backend: the library belongs to the Python that the stub was built with."
    )


def model_failures(log: str) -> dict[str, str]:
    """Return model -> Triton's own reason, its first line only, of those that were not loaded afterwards."""
    failures: dict[str, str] = {}
    for found in MODEL_FAILURE.finditer(log):
        model, reason = found["a"] or found["b"] or found["c"], found["reason"].split("\\n")[0].rstrip().removesuffix('"')
        if f"successfully loaded '{model}'" not in log[found.end() :]:
            failures.setdefault(model, reason)
    return failures


def _model_todo(reason: str) -> str:
    for pattern, todo in MODEL_CURES:
        found = re.search(pattern, reason)
        if found:
            return todo.format(*found.groups())
    return MODEL_TODO


def explain_silence(log: str) -> Explanation | None:
    """Return what a server is doing, or did before it was killed, that neither ended by itself nor listens."""
    if re.search(r"Started (?:HTTP|GRPCInference)Service", log):
        return None
    loading = dict.fromkeys(re.findall(r'"loading: ([^"]+):\d+"', log))
    unfinished = [model for model in loading if f"successfully loaded '{model}'" not in log]
    if unfinished:
        return Explanation(
            "model_load",
            f"it had not finished loading {', '.join(unfinished)}",
            "Give the start-up probe more time if the model is large, and the pod more memory if it is a Python model: where Kubernetes does not see that "
            "a process in a container was killed (cgroup v1), Triton waits for it in vain.",
        )
    if "memory_manager.cc" in log and not loading:
        return Explanation(
            "s3_access",
            "it had not got past opening the model repository; "
            "Triton tries an S3 endpoint that does not answer for about 50 s without a word in the log",
            "Check that the pod reaches the endpoint: host, port, scheme (http or https), network policies.",
        )
    return None


def relevant(log: str, count: int) -> list[str]:
    """Return the last ``count`` lines that matter, redacted: errors first of all, without the tables of options."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip() and not re.match(r"[+|]|I\d{4} .*\] *$", line) and not NOISE.search(line)]
    # Indented lines belong to a text of several lines, such as the list of options after an unknown one.
    chosen = [
        line for line in lines if re.match(r"E\d{4} |(?=\S).*(?:Traceback|error:|failed|unable to|cannot|not found|unrecognized)", line, re.I)
    ] or lines
    return [redact(line) for line in chosen[-count:]] if count > 0 else []
