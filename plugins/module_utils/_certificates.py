# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it takes to trust a server whose certificate lies in a Secret. PRIVATE to the collection."""

from __future__ import annotations

import base64

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _kube

try:
    from cryptography import x509
except ImportError:
    x509 = None  # The caller reports it.

REQUIREMENT = "cryptography"


def trusted(api, namespace: str, name: str) -> tuple[str, str]:
    """Return (certificates to trust in PEM, a name that stands in the server's certificate).

    The Secret's own ca.crt is trusted, or the certificate if it signed itself; else nothing is returned, and what the system trusts has to do.

    :raises _cluster.ClusterError: there is no such Secret, or no certificate in it
    """
    content = _kube.get(api, f"/api/v1/namespaces/{namespace}/secrets/{name}", absent_is_empty=True)
    if not content:
        raise _cluster.ClusterError(f"There is no Secret {name} in namespace {namespace} with the server's certificate.")
    data = content.get("data") or {}
    try:
        pem = base64.b64decode(data["tls.crt"])
        certificate = x509.load_pem_x509_certificate(pem)
    except (KeyError, ValueError):
        raise _cluster.ClusterError(f"The Secret {name} in namespace {namespace} has no certificate in PEM as tls.crt.") from None
    own = pem.decode() if certificate.issuer == certificate.subject else ""
    return base64.b64decode(data.get("ca.crt") or "").decode() or own, _name(certificate)


def _name(certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = []
    # A wildcard stands for any one word.
    return names[0].replace("*", "any") if names else "localhost"
