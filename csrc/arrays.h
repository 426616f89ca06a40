// Access to what Python hands over. All arrays pass through this file, so a
// wrong one raises ValueError and corrupts no memory.
#ifndef TRPO_TF_CSRC_ARRAYS_H_
#define TRPO_TF_CSRC_ARRAYS_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace trpo_tf {

namespace py = pybind11;

using Shape = std::initializer_list<py::ssize_t>;

// Throws a text in which each {} stands for one of the values.
template <typename... T>
[[noreturn]] void Refuse(const char* text, const T&... values) {
  throw std::invalid_argument(std::string(py::str(text).format(values...)));
}

// Returns the data of a C-contiguous array of T. The array has to be writeable
// unless T is const.
template <typename T>
T* Data(py::handle item, const char* name, Shape shape) {
  using Element = std::remove_const_t<T>;
  if (!py::isinstance<py::array_t<Element, py::array::c_style>>(item)) {
    Refuse("{} must be a C-contiguous array of {}", name,
           py::dtype::of<Element>());
  }
  auto array = py::reinterpret_borrow<py::array>(item);
  const py::object given = array.attr("shape");
  const py::tuple wanted(py::cast(std::vector<py::ssize_t>(shape)));
  if (!given.equal(wanted)) {
    Refuse("{} should have shape {}, got {}", name, wanted, given);
  }
  if (!(array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) {
    Refuse("{} must be aligned", name);
  }
  if (!std::is_const_v<T> && !array.writeable()) {
    Refuse("{} must be writeable", name);
  }
  return static_cast<T*>(const_cast<void*>(array.data()));
}

// The arguments of one call, by name.
class Arrays {
 public:
  explicit Arrays(py::dict items) : items_(std::move(items)) {}

  bool Has(const char* name) const { return items_.contains(name); }

  template <typename T>
  T Get(const char* name) const {
    if (!Has(name)) Refuse("missing array {}", name);
    try {
      return items_[name].cast<T>();
    } catch (const py::cast_error&) {
      Refuse("{} is of a wrong type or too large", name);
    }
  }

  // Returns the size of one of an array's axes.
  int Size(const char* name, int axes, int axis) const {
    const py::array array(Get<py::object>(name));
    if (array.ndim() != axes) Refuse("{} should have {} axes", name, axes);
    return static_cast<int>(array.shape(axis));
  }

  // Returns an array's data, or null if it is not wanted. An array that C++
  // writes must not share memory with another one: that could be a counter,
  // which is checked only once.
  template <typename T>
  T* Take(const char* name, Shape shape, bool wanted = true) {
    if (!wanted) return nullptr;
    const auto array = Get<py::object>(name);
    T* data = Data<T>(array, name, shape);
    const auto* begin = reinterpret_cast<const char*>(data);
    const Span span{begin, begin + py::array(array).nbytes(),
                    !std::is_const_v<T>, name};
    for (const Span& other : spans_) {
      const bool apart = span.begin >= other.end || other.begin >= span.end;
      if (apart || !(span.written || other.written)) continue;
      Refuse("{} shares memory with {}", name, other.name);
    }
    spans_.push_back(span);
    return data;
  }

  // Does the same for int32 numbers that C++ uses as indices.
  template <typename T>
  T* TakeIndices(const char* name, Shape shape, int least, int most,
                 bool wanted = true) {
    T* indices = Take<T>(name, shape, wanted);
    const py::ssize_t size = wanted ? Get<py::array>(name).size() : 0;
    for (py::ssize_t i = 0; i < size; i++) {
      if (indices[i] >= least && indices[i] <= most) continue;
      Refuse("{} must lie in [{}, {}], got {}", name, least, most, indices[i]);
    }
    return indices;
  }

 private:
  struct Span {
    const char *begin, *end;
    bool written;
    const char* name;
  };

  py::dict items_;
  std::vector<Span> spans_;
};

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_ARRAYS_H_
