// Checked access to a dictionary of NumPy arrays: every name, shape and dtype
// is verified once per call.
#ifndef TRPO_TF_CSRC_ARRAYS_H_
#define TRPO_TF_CSRC_ARRAYS_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

namespace trpo_tf {

namespace py = pybind11;

inline std::string Text(const std::vector<py::ssize_t>& shape) {
  std::string text;
  for (py::ssize_t n : shape) {
    text += (text.empty() ? "" : ", ") + (n < 0 ? "*" : std::to_string(n));
  }
  return "(" + text + (shape.size() == 1 ? ",)" : ")");
}

inline py::object Find(const py::dict& arrays, const char* name) {
  if (!arrays.contains(name)) {
    throw py::value_error(std::string("missing array ") + name);
  }
  return arrays[name];
}

// Throws unless the array has the shape; a size of -1 fits any.
inline void CheckShape(const py::array& array, const char* name,
                       const std::vector<py::ssize_t>& shape) {
  std::vector<py::ssize_t> given(array.shape(), array.shape() + array.ndim());
  bool fits = given.size() == shape.size();
  for (size_t i = 0; fits && i < shape.size(); i++) {
    fits = shape[i] < 0 || shape[i] == given[i];
  }
  if (!fits) {
    throw py::value_error(std::string(name) + " should have shape " +
                          Text(shape) + ", got " + Text(given));
  }
}

// The named array's data.
template <typename T>
T* Take(const py::dict& arrays, const char* name,
        const std::vector<py::ssize_t>& shape) {
  py::object item = Find(arrays, name);
  if (!py::isinstance<py::array_t<T, py::array::c_style>>(item)) {
    throw py::value_error(std::string(name) +
                          " must be a C-contiguous array of " +
                          py::str(py::dtype::of<T>()).cast<std::string>());
  }
  py::array array = item;
  CheckShape(array, name, shape);
  return static_cast<T*>(array.request().ptr);
}

// The same, or null where there is no such array.
template <typename T>
T* TakeIfGiven(const py::dict& arrays, const char* name,
               const std::vector<py::ssize_t>& shape) {
  return arrays.contains(name) ? Take<T>(arrays, name, shape) : nullptr;
}

// The same of S counters that C++ goes on from as array indices.
inline int32_t* TakeCounters(const py::dict& arrays, const char* name,
                             py::ssize_t S, int most) {
  int32_t* counters = Take<int32_t>(arrays, name, {S});
  for (py::ssize_t s = 0; s < S; s++) {
    if (counters[s] >= 0 && counters[s] <= most) continue;
    throw py::value_error(
        std::string(name) + " must lie in [0, " + std::to_string(most) + "]; " +
        name + "[" + std::to_string(s) + "] is " + std::to_string(counters[s]));
  }
  return counters;
}

// Size of an axis of the named array, which has `rank` axes.
inline int Size(const py::dict& arrays, const char* name, int rank, int axis) {
  const py::array array(Find(arrays, name));
  CheckShape(array, name, std::vector<py::ssize_t>(rank, -1));
  return static_cast<int>(array.shape(axis));
}

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_ARRAYS_H_
