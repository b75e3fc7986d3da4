# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an answer to a load is right. PRIVATE to the collection.

An answer whose very bytes were found right before is right; only others are decoded and compared, so that every answer is checked at little cost.
"""

from __future__ import annotations

from ansible_collections.mlserving.triton.plugins.module_utils._load_job import Job

#: Of a model that answers with other bytes each time, such as random ones within a tolerance, so many are remembered.
MOST_KNOWN = 64


class Judge:
    """Holds the answers of one process against what is expected of them."""

    def __init__(self, job: Job):
        self._job, self.known = job, set(job.known)

    def problem(self, answer: bytes, header: int) -> str:
        """Return in words how an answer is wrong, an empty text if it is not.

        :param answer: the body over HTTP, the message over gRPC
        :param header: length of the JSON before the tensors' bytes; 0 if the body is all JSON, and over gRPC
        """
        if not self._job.outputs or answer in self.known:
            return ""
        # Numpy and the client library take half a second, which a load of known answers does without.
        from ansible_collections.mlserving.triton.plugins.module_utils import _expectations

        try:
            problem = _expectations.compare(list(self._job.outputs), decode(self._job.protocol, answer, header))
        except Exception as error:  # What the decoders raise is whatever a broken answer leads them to.
            problem = f"the answer is not Triton's ({type(error).__name__})"
        if not problem and len(self.known) < MOST_KNOWN:
            self.known.add(answer)
        return problem


def decode(protocol: str, answer: bytes, header: int) -> dict:
    """Return name -> (data type, array) of an answer.

    :raises Exception: it is no answer of this protocol
    """
    if protocol == "grpc":
        import tritonclient.grpc

        message = tritonclient.grpc.service_pb2.ModelInferResponse.FromString(answer)
        result, entries = tritonclient.grpc.InferResult(message), [(entry.name, entry.datatype) for entry in message.outputs]
    else:
        import tritonclient.http

        result = tritonclient.http.InferResult.from_response_body(answer, header_length=header or None)
        entries = [(entry["name"], entry["datatype"]) for entry in result.get_response().get("outputs", [])]
    return {name: (datatype, result.as_numpy(name)) for name, datatype in entries}
