# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options in module_utils/_repository_options.py. PRIVATE to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - boto3 >= 1.38
  - tritonclient[grpc] >= 2.60
options:
  url:
    description:
      - The repository as Triton reads it. One of C(s3://BUCKET/PREFIX), C(s3://HOST:PORT/BUCKET/PREFIX),
        C(s3://http://HOST:PORT/BUCKET/PREFIX) and C(s3://https://HOST:PORT/BUCKET/PREFIX).
      - Checked by Triton's own rules, since Triton takes a URL that it cannot read for another bucket.
    type: str
  endpoint_url:
    description:
      - The same store as the controller reaches it, if that is another address than the one in O(url).
      - By default the one in O(url), over plain HTTP for C(s3://HOST:PORT/BUCKET/PREFIX), or AWS. Environment variables such as
        E(AWS_ENDPOINT_URL) are not read.
    type: str
  region:
    description:
      - Region of the bucket. By default what the SDK finds in the environment or the profile, else V(us-east-1).
      - A bucket on AWS that is in another region is an error, since Triton is given the same region and follows no redirect.
    type: str
  addressing:
    description:
      - Whether the bucket's name stands in the path or in the host name. V(auto) takes the path for a store with its own
        endpoint, and what the SDK chooses for AWS.
    type: str
    choices: [auto, path, virtual]
    default: auto
  ca_bundle:
    description:
      - File of PEM certificates to trust for the store, in place of the system's.
    type: path
  profile:
    description:
      - Profile of the AWS configuration files to take the credentials from.
    type: str
  access_key_id:
    description:
      - Id of the access key. Without it the SDK looks for credentials (environment, profile, role of the machine).
    type: str
  secret_access_key:
    description:
      - The access key.
    type: str
  session_token:
    description:
      - Token of temporary credentials.
    type: str
  retry_seconds:
    description:
      - For how long a request is sent again, at random intervals, while the store does not answer or is overloaded.
      - A store that has never answered is waited for 5 seconds only.
    type: int
    default: 60
  source:
    description:
      - Directory on the controller that holds the model directories.
    type: path
  layout:
    description:
      - With V(in_place) the tree lies right below O(url), as the public chart has it. A model's C(config.pbtxt) is written
        after all its other files and deleted before them, so that a Triton that polls never sees a configuration without its versions.
      - With V(release) it lies in C(releases/DIGEST/) below O(url), where DIGEST is made from names and contents. Objects that an earlier release
        has are copied within the store. The release counts once its manifest C(releases/DIGEST.json) is there, which
        is written last; nothing of it changes afterwards.
    type: str
    choices: [in_place, release]
    default: in_place
  keep:
    description:
      - How many complete releases stay, the current one and the latest before it.
    type: int
    default: 3
  in_use:
    description:
      - Names of releases (DIGEST in O(layout)) that stay too, because servers run them or may be put back to them.
    type: list
    elements: str
    default: []
  prune:
    description:
      - With O(layout=in_place), delete the objects below O(url) that O(source) does not have; releases are left alone.
      - Without a prefix in O(url), only in a bucket that this collection made.
    type: bool
    default: false
  strict:
    description:
      - Take the lint's warnings for errors.
    type: bool
    default: false
  follow_external_links:
    description:
      - Follow symbolic links that lead out of O(source). Without it they are errors, since what they lead to may not be meant to be published.
    type: bool
    default: false
  parallel:
    description:
      - How many files are read and how many requests run at a time. The files' content takes 64 MiB of memory at most.
    type: int
    default: 32
  cache_dir:
    description:
      - Directory that remembers the checksums of local files, by size, inode and times, and the uploads that were cut off.
      - By default C(mlserving-triton) in E(XDG_CACHE_HOME) or C(~/.cache).
    type: path
notes:
  - The module runs on the controller (connection V(local)), where the tree lies.
"""
