"""What the extensions need from the active Python, as a local repository."""

_FIND = """
import importlib.util, sysconfig
def folder(name):
  spec = importlib.util.find_spec(name)
  return spec.submodule_search_locations[0] if spec else ''
print(sysconfig.get_path('include'))
print(folder('pybind11'))
print(folder('mujoco'))
"""

_BUILD = """
package(default_visibility = ["//visibility:public"])

cc_library(
    name = "python",
    hdrs = glob(["python/**/*.h"]),
    includes = ["python"],
)

cc_library(
    name = "pybind11",
    hdrs = glob(["pybind11/**/*.h"]),
    includes = ["pybind11"],
    deps = [":python"],
)

cc_library(
    name = "mujoco",
    srcs = ["{library}"],
    hdrs = glob(["mujoco/**/*.h"]),
    includes = ["mujoco"],
)
"""

def _python_wheels_impl(context):
    python = context.os.environ.get("PYTHON_BIN", "python3")
    found = context.execute([python, "-c", _FIND])
    if found.return_code:
        fail("PYTHON_BIN=%s does not run: %s" % (python, found.stderr))
    headers, pybind11, mujoco = found.stdout.strip("\n").split("\n")
    for name, folder in [("pybind11", pybind11), ("mujoco", mujoco)]:
        if not folder:
            fail("%s has no package %s. Run: %s -m pip install %s" %
                 (python, name, python, name))
    libraries = [
        path
        for path in context.path(mujoco).readdir()
        if path.basename.startswith("libmujoco.so.")
    ]
    if len(libraries) != 1:
        fail(("%d files libmujoco.so.* in %s (Python asked: %s). Run: %s -m " +
              "pip install --force-reinstall --no-deps mujoco mujoco-core") %
             (len(libraries), mujoco, python, python))
    context.symlink(headers, "python")
    context.symlink(pybind11 + "/include", "pybind11")
    context.symlink(mujoco + "/include", "mujoco")
    context.symlink(libraries[0], libraries[0].basename)
    context.file("BUILD", _BUILD.format(library = libraries[0].basename))

# PYTHON_BIN names the Python; its path says which wheels the build sees.
python_wheels = repository_rule(
    implementation = _python_wheels_impl,
    configure = True,
    doc = "Targets python, pybind11 and mujoco of the Python PYTHON_BIN.",
    environ = ["PATH", "PYTHON_BIN"],
    local = True,
)
