# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _gpu_runtime

FOREIGN = '# ours\nversion = 2\n[plugins."x"]\n  a = 1  # why\n'


@pytest.mark.parametrize(
    "text", [FOREIGN, 'imports = ["/etc/other/*.toml"]\n' + FOREIGN, "version = 3\nimports = ['/etc/other/a.toml', \"/b.toml\"]\n"]
)
def test_only_the_imports_change(text):
    entries = [*_gpu_runtime.imports(text), "/etc/containerd/conf.d/*.toml"]
    changed = _gpu_runtime.with_imports(text, entries)
    assert _gpu_runtime.imports(changed) == entries

    def rest(words):
        return [line for line in words.splitlines() if not line.startswith("imports")]

    assert rest(changed) == rest(text)
    assert _gpu_runtime.with_imports(changed, entries) == changed


def test_imports_without_entries_are_no_line():
    assert _gpu_runtime.with_imports('imports = ["/a"]\n' + FOREIGN, []) == FOREIGN


def test_a_program_that_fails_is_an_error_with_its_words():
    with pytest.raises(_gpu_runtime.RuntimeConfigError, match="the check: bad line"):
        _gpu_runtime.execute(["sh", "-c", "echo bad line >&2; exit 1"], "the check")
    with pytest.raises(_gpu_runtime.RuntimeConfigError, match="no-such-program is not installed"):
        _gpu_runtime.execute(["no-such-program"], "the check")


def test_what_others_put_beside_stays_imported(tmp_path):
    main, part = tmp_path / "config.toml", tmp_path / "conf.d" / "99-nvidia.toml"
    part.parent.mkdir()
    part.write_text("")
    main.write_text(f'imports = ["{part.parent}/*.toml"]\n' + FOREIGN)
    assert _gpu_runtime.without("containerd", str(main), str(part)) == {str(part): None, str(main): FOREIGN}
    (part.parent / "proxy.toml").write_text("")
    assert _gpu_runtime.without("containerd", str(main), str(part)) == {str(part): None}
