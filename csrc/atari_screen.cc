// The extension trpo_tf/sampling/_atari: from an emulator's screens to the
// frames that a policy sees, and the policy's network. It needs neither MuJoCo
// nor TensorFlow, so that the processes that run emulators stay small.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "conv.h"

namespace trpo_tf {
namespace {

namespace py = pybind11;

// Whether the table has a grey value, one below 256, for every colour of
// `screen`, given that it has them for `known`, of the same size. Rows that are
// the same, most of them, are not looked at.
bool Known(const uint8_t* screen, const uint8_t* known, const uint16_t* table,
           int rows, int columns) {
  uint16_t seen = 0;
  for (int y = 0; y < rows; y++, screen += columns, known += columns) {
    if (std::memcmp(screen, known, columns) == 0) continue;
    for (int x = 0; x < columns; x++) seen |= table[screen[x]];
  }
  return seen < 256;
}

constexpr int kWord = 8;  // pixels that are compared at once

uint64_t Load(const uint8_t* pixels) {
  uint64_t word;
  std::memcpy(&word, pixels, kWord);
  return word;
}

// pooled = max(grey of first, grey of second). Many rows repeat the one above,
// and many words the one to the left.
void Pool(const uint8_t* first, const uint8_t* second, const uint16_t* table,
          int rows, int columns, uint8_t* pooled) {
  for (int y = 0; y < rows; y++) {
    if (y > 0 && std::memcmp(first, first - columns, columns) == 0 &&
        std::memcmp(second, second - columns, columns) == 0) {
      std::memcpy(pooled, pooled - columns, columns);
    } else {
      uint64_t a = ~Load(first), b = 0, word = 0;
      for (int x = 0; x < columns; x += kWord) {
        const uint64_t now_a = Load(first + x), now_b = Load(second + x);
        if (now_a != a || now_b != b) {
          a = now_a;
          b = now_b;
          word = 0;
          for (int k = 0; k < kWord; k++) {
            word |=
                uint64_t{std::max(table[first[x + k]], table[second[x + k]])}
                << 8 * k;
          }
        }
        std::memcpy(pooled + x, &word, kWord);
      }
    }
    first += columns;
    second += columns;
    pooled += columns;
  }
}

constexpr int kTaps = 4;    // most columns of an area
constexpr int kMost = 257;  // sum of weights: sums of 255 fit into 16 bits

// How `pixels` pixels are averaged over `results` equal parts, one part after
// the other: the pixels from starts[i] on, with the weights of part i, which
// add up to `total`. All parts have `taps` weights, the last ones may be 0.
struct Parts {
  std::vector<int> starts;
  std::vector<uint16_t> weights;
  int total, taps;

  // least_taps: for loops whose length the compiler knows
  Parts(int pixels, int results, int least_taps = 0) : taps(least_taps) {
    const int common = std::gcd(pixels, results);
    total = pixels / common;
    const int width = results / common;  // of a pixel, where a part has `total`
    for (int pass = 0; pass < 2; pass++) {
      starts.clear();
      for (int low = 0; low < pixels * width; low += total) {
        const int start = low / width, high = low + total;
        const int count = (high - 1) / width + 1 - start;
        taps = std::max(taps, count);
        starts.push_back(start);
        for (int p = start; pass == 1 && p < start + taps; p++) {
          weights.push_back(static_cast<uint16_t>(std::max(
              0, std::min(high, (p + 1) * width) - std::max(low, p * width))));
        }
      }
    }
  }
};

// Averages screens of height x width pixels over out_height x out_width areas.
class Shrinker {
 public:
  Shrinker(int height, int width, int out_height, int out_width)
      : height_(height),
        width_(width),
        rows_(height, out_height),
        columns_(width, out_width, kTaps),
        pooled_((height + rows_.taps) * width),
        sums_(width + columns_.taps) {}

  // Writes the frame of two screens: the mean of the brighter of the two over
  // every area, rounded to the nearest, halves up.
  void Frame(const uint8_t* first, const uint8_t* second, const uint16_t* table,
             uint8_t* out) {
    Pool(first, second, table, height_, width_, pooled_.data());
    // a division by 2 total, exact for all sums of up to 255 total: times them
    // the excess of the inverse, 2^-kShift at most, is below 1 / (2 total)
    constexpr int kShift = 48;
    const uint64_t total = uint64_t{1} * rows_.total * columns_.total;
    const uint64_t inverse = (uint64_t{1} << kShift) / (2 * total) + 1;
    const uint16_t* row_weight = rows_.weights.data();
    for (const int start : rows_.starts) {
      std::fill(sums_.begin(), sums_.end(), 0);
      const uint8_t* row = pooled_.data() + width_ * start;
      for (int k = 0; k < rows_.taps; k++, row += width_) {
        AddRow(row, *row_weight++);
      }
      const uint16_t* weight = columns_.weights.data();
      for (const int column : columns_.starts) {
        uint32_t sum = 0;
        for (int k = 0; k < kTaps; k++) {
          sum += uint32_t{weight[k]} * sums_[column + k];
        }
        weight += kTaps;
        *out++ = static_cast<uint8_t>((2 * uint64_t{sum} + total) * inverse >>
                                      kShift);
      }
    }
  }

 private:
  void AddRow(const uint8_t* row, uint16_t weight) {
    uint16_t* sum = sums_.data();
    for (int x = 0; x < width_; x++) {
      sum[x] = static_cast<uint16_t>(sum[x] + weight * row[x]);
    }
  }

  int height_, width_;
  Parts rows_, columns_;
  std::vector<uint8_t> pooled_;  // with rows after the last, of weight 0
  std::vector<uint16_t> sums_;
};

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

void Check(bool fits, const char* message) {
  if (!fits) throw py::value_error(message);
}

using Shape = std::pair<int, int>;

bool HasShape(const py::array& array, const Shape& shape) {
  return array.ndim() == 2 && array.shape(0) == shape.first &&
         array.shape(1) == shape.second;
}

bool CheckedKnown(const Array<uint8_t>& screen, const Array<uint8_t>& known,
                  const Array<uint16_t>& table) {
  Check(screen.ndim() == 2 && table.size() == 256, "known: wrong sizes");
  const Shape shape(screen.shape(0), screen.shape(1));
  Check(HasShape(known, shape), "known: screens of two shapes");
  return Known(screen.data(), known.data(), table.data(), shape.first,
               shape.second);
}

class CheckedShrinker {
 public:
  CheckedShrinker(const Shape& screen, const Shape& frame)
      : screen_(screen), frame_(frame), shrinker_(Checked(screen, frame)) {}

  void Frame(const Array<uint8_t>& first, const Array<uint8_t>& second,
             const Array<uint16_t>& table, Array<uint8_t>& out) {
    Check(HasShape(first, screen_) && HasShape(second, screen_) &&
              HasShape(out, frame_) && table.size() == 256,
          "frame: arrays of other sizes");
    shrinker_.Frame(first.data(), second.data(), table.data(),
                    out.mutable_data());
  }

 private:
  static Shrinker Checked(const Shape& screen, const Shape& frame) {
    const auto [height, width] = screen;
    const auto [rows, columns] = frame;
    Check(rows > 0 && columns > 0 && rows <= height && columns <= width &&
              width % kWord == 0 && height / std::gcd(height, rows) <= kMost &&
              Parts(width, columns).taps <= kTaps,
          "Shrinker: cannot average this screen over these areas");
    return Shrinker(height, width, rows, columns);
  }

  Shape screen_, frame_;
  Shrinker shrinker_;
};

// Outputs [n, M] for pixels [n, H, W, C], the slots from `first` on.
Array<float> CheckedOutputs(ConvNetwork& network, const Array<float>& theta,
                            int first, const Array<uint8_t>& pixels) {
  const auto n = pixels.ndim() > 0 ? pixels.shape(0) : 0;
  Check(n > 0 && first >= 0 && first + n <= network.NumSlots() &&
            pixels.size() == n * network.NumInputs() &&
            theta.size() == network.NumParameters(),
        "outputs: arrays of other sizes");
  Array<float> result({static_cast<int>(n), network.NumOutputs()});
  network.SetParameters(theta.data());
  network.Forward(first, static_cast<int>(n), pixels.data(),
                  result.mutable_data());
  return result;
}

}  // namespace
}  // namespace trpo_tf

PYBIND11_MODULE(_atari, m) {
  using pybind11::arg;
  using trpo_tf::CheckedShrinker;
  using trpo_tf::Shape;
  m.def("known", &trpo_tf::CheckedKnown, arg("screen").noconvert(),
        arg("known").noconvert(), arg("table").noconvert(),
        "Whether the table has the grey value of every colour of a screen, "
        "given that it has those of another one.");
  pybind11::class_<CheckedShrinker>(m, "Shrinker")
      .def(pybind11::init<const Shape&, const Shape&>(), arg("screen"),
           arg("frame"), "Heights and widths.")
      .def("frame", &CheckedShrinker::Frame, arg("first").noconvert(),
           arg("second").noconvert(), arg("table").noconvert(),
           arg("out").noconvert(),
           "Averages the brighter of two screens, in grey, over areas.");
  using trpo_tf::ConvNetwork;
  pybind11::class_<ConvNetwork>(m, "ConvNetwork")
      .def(pybind11::init([](const std::vector<int>& input_shape,
                             const std::vector<int>& filters,
                             const std::vector<int>& hidden_sizes, int outputs,
                             int activation, int slots) {
             return ConvNetwork(
                 input_shape.at(0), input_shape.at(1), input_shape.at(2),
                 filters, hidden_sizes, outputs,
                 static_cast<trpo_tf::Activation>(activation), slots);
           }),
           arg("input_shape"), arg("filters"), arg("hidden_sizes"),
           arg("output_size"), arg("activation"), arg("slots"))
      .def("outputs", &trpo_tf::CheckedOutputs, arg("theta").noconvert(),
           arg("first"), arg("pixels").noconvert(),
           "Outputs for the observations of consecutive slots.");
}
