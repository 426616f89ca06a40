#include "atari_screen.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>

namespace trpo_tf {
namespace {

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

constexpr uint16_t kUnknown = 256;  // above all grey values
constexpr int kTaps = 4;            // most columns of an area
constexpr int kMost = 257;  // sum of weights: sums of 255 fit into 16 bits

// A division by 2 total is a product with this inverse and a shift, exact for
// all sums of up to 255 total: times them the excess of the inverse, 2^-kShift
// at most, is below 1 / (2 total).
constexpr int kShift = 48;

const Screens::Shape& Checked(const Screens::Shape& shape) {
  const int height = shape.bottom - shape.top;
  Require(shape.top >= 0 && shape.bottom <= shape.height && shape.rows > 0 &&
              shape.columns > 0 && shape.rows <= height &&
              shape.columns <= shape.width && shape.width % kWord == 0 &&
              height / std::gcd(height, shape.rows) <= kMost &&
              Parts(shape.width, shape.columns).taps <= kTaps,
          "cannot average this screen over these areas");
  return shape;
}

}  // namespace

Parts::Parts(int pixels, int results, int least_taps) : taps(least_taps) {
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

Screens::Screens(const Shape& shape)
    : shape_(Checked(shape)),
      rows_(shape.bottom - shape.top, shape.rows),
      columns_(shape.width, shape.columns, kTaps),
      total_(uint64_t{1} * rows_.total * columns_.total),
      inverse_((uint64_t{1} << kShift) / (2 * total_) + 1),
      table_(256, kUnknown),
      changed_(shape.height, 1),
      pooled_(size_t{1} * rows_.taps * shape.width),
      sums_(shape.width + columns_.taps),
      frame_(size_t{1} * shape.rows * shape.columns) {
  table_[0] = 0;  // black in every palette
  for (int place = 0; place < 2; place++) {
    now_[place].resize(size_t{1} * shape.height * shape.width);
    seen_[place].resize(now_[place].size());
  }
}

bool Screens::See(int place) {
  const int width = shape_.width;
  const uint8_t* screen = Now(place);
  uint16_t grey = 0;
  for (int y = shape_.top; y < shape_.bottom; y++) {
    const uint8_t* now = screen + y * width;
    uint8_t* seen = seen_[place].data() + y * width;
    if (std::memcmp(now, seen, width) == 0) continue;
    changed_[y] = 1;
    for (int x = 0; x < width; x += kWord) {
      if (Load(now + x) == Load(seen + x)) continue;
      for (int k = 0; k < kWord; k++) grey |= table_[now[x + k]];
    }
    std::copy_n(now, width, seen);
  }
  return grey < kUnknown;
}

void Screens::Learn(int place, const uint8_t* grey) {
  const uint8_t* now = Now(place);
  const int size = shape_.height * shape_.width;
  for (int i = 0; i < size; i++) table_[now[i]] = grey[i];
}

void Screens::Frame(int count, uint8_t* out) {
  Require(count == 1 || count == 2, "there are two screens");
  const int end = shape_.bottom - shape_.top;
  const uint8_t* changed = changed_.data() + shape_.top;
  for (int i = 0; i < shape_.rows; i++) {
    const int low = rows_.starts[i], high = std::min(low + rows_.taps, end);
    if (count == count_ && !std::count(changed + low, changed + high, 1)) {
      continue;
    }
    const size_t at = size_t{1} * (shape_.top + low) * shape_.width;
    Row(seen_[2 - count].data() + at, seen_[1].data() + at, i,
        frame_.data() + i * shape_.columns);
  }
  std::fill(changed_.begin(), changed_.end(), 0);
  count_ = count;
  std::copy(frame_.begin(), frame_.end(), out);
}

void Screens::Row(const uint8_t* first, const uint8_t* second, int index,
                  uint8_t* out) {
  const int width = shape_.width;
  const int count =
      std::min(rows_.taps, shape_.bottom - shape_.top - rows_.starts[index]);
  Pool(first, second, table_.data(), count, width, pooled_.data());
  std::fill(sums_.begin(), sums_.end(), 0);
  for (int k = 0; k < count; k++) {
    const uint16_t weight = rows_.weights[index * rows_.taps + k];
    const uint8_t* row = pooled_.data() + k * width;
    uint16_t* sum = sums_.data();
    for (int x = 0; x < width; x++) {
      sum[x] = static_cast<uint16_t>(sum[x] + weight * row[x]);
    }
  }
  const uint16_t* weight = columns_.weights.data();
  for (const int column : columns_.starts) {
    uint32_t sum = 0;
    for (int k = 0; k < kTaps; k++) {
      sum += uint32_t{weight[k]} * sums_[column + k];
    }
    weight += kTaps;
    *out++ =
        static_cast<uint8_t>((2 * uint64_t{sum} + total_) * inverse_ >> kShift);
  }
}

}  // namespace trpo_tf
