#include "conv.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "check.h"

namespace trpo_tf {
namespace {

constexpr int kKernel = 4, kStride = 2;

// n filters at `positions` patches, wherever they are, whose sums stay in
// registers while the patches, kKernel rows of `length` inputs, are walked.
template <int positions, int n>
TRPO_TF_INLINE void Patches(const float* kernel, const float* bias,
                            const float* in, const int* starts, int row_size,
                            int length, int filters, float* out,
                            const int* places) {
  float sum[positions][n];
  for (int p = 0; p < positions; p++) {
    for (int k = 0; k < n; k++) sum[p][k] = bias[k];
  }
  for (int i = 0; i < kKernel; i++, in += row_size) {
    for (int c = 0; c < length; c++, kernel += filters) {
      for (int k = 0; k < n; k++) {
        for (int p = 0; p < positions; p++) {
          sum[p][k] = __builtin_fmaf(in[starts[p] + c], kernel[k], sum[p][k]);
        }
      }
    }
  }
  for (int p = 0; p < positions; p++) {
    for (int k = 0; k < n; k++) out[places[p] + k] = sum[p][k];
  }
}

// out[places[p] + f] = bias[f] + the sum over the patch that begins at
// in[starts[p]], for p < count.
TRPO_TF_VECTORIZE
void Convolve(const float* kernel, const float* in, const int* starts,
              int row_size, int length, int filters, int count, float* out,
              const int* places) {
  const float* bias = kernel + kKernel * length * filters;
  int f = 0;
#define PATCHES(positions, n)                                             \
  for (; count - p >= positions; p += positions) {                        \
    Patches<positions, n>(kernel + f, bias + f, in, starts + p, row_size, \
                          length, filters, out + f, places + p);          \
  }
#define FILTERS(n)                                          \
  for (; filters - f >= n; f += n) {                        \
    int p = 0;                                              \
    PATCHES(6, n) PATCHES(4, n) PATCHES(2, n) PATCHES(1, n) \
  }
  FILTERS(16)
  FILTERS(8)
  FILTERS(4)
  FILTERS(1)
#undef FILTERS
#undef PATCHES
}

TRPO_TF_VECTORIZE
void Scale(const uint8_t* pixels, size_t n, float* out) {
  for (size_t i = 0; i < n; i++) {
    out[i] = static_cast<float>(pixels[i]) / 255.0f;
  }
}

}  // namespace

ConvNetwork::ConvNetwork(int height, int width, int channels,
                         const std::vector<int>& filters,
                         const std::vector<int>& hidden, int outputs,
                         Activation activation) {
  Require(!filters.empty(), "filters: no layer");
  int first = 0;
  for (const int count : filters) {
    Require(count > 0 && height >= kKernel && width >= kKernel,
            "filters must be positive and their kernels fit into the frame");
    const int rows = (height - kKernel) / kStride + 1;
    const int columns = (width - kKernel) / kStride + 1;
    layers_.push_back({height, width, channels, rows, columns, count, first,
                       std::vector<float>(size_t{1} * rows * columns * count)});
    first += (kKernel * kKernel * channels + 1) * count;
    height = rows;
    width = columns;
    channels = count;
  }
  head_.sizes = {height * width * channels};
  head_.sizes.insert(head_.sizes.end(), hidden.begin(), hidden.end());
  head_.sizes.push_back(outputs);
  head_.activation = activation;
  CheckNetwork(head_, head_.sizes.front(), outputs);
  const Layer& input = layers_.front();
  input_.resize(size_t{1} * input.height * input.width * input.channels);
  pixels_.resize(input_.size());
  scratch_.resize(2 * head_.Width());
  theta_.resize(first + head_.NumParameters());
}

void ConvNetwork::SetParameters(const float* theta) {
  std::copy_n(theta, theta_.size(), theta_.begin());
  fresh_ = true;
}

void ConvNetwork::FindChanged(const uint8_t* pixels) {
  const Layer& layer = layers_.front();
  const int row_size = layer.width * layer.channels;
  changed_.resize(size_t{1} * layer.height * layer.width);
  uint8_t *changed = changed_.data(), *before = pixels_.data();
  float* scaled = input_.data();
  for (int y = 0; y < layer.height; y++) {
    if (!fresh_ && std::memcmp(pixels, before, row_size) == 0) {
      std::fill_n(changed, layer.width, 0);
    } else {
      for (int x = 0; x < layer.width; x++) {
        const int at = x * layer.channels;
        changed[x] = fresh_ ||
                     std::memcmp(pixels + at, before + at, layer.channels) != 0;
      }
      std::copy_n(pixels, row_size, before);
      Scale(pixels, row_size, scaled);
    }
    changed += layer.width;
    pixels += row_size;
    before += row_size;
    scaled += row_size;
  }
  fresh_ = false;
}

void ConvNetwork::SpreadChanged(const Layer& layer) {
  const int width = layer.width, out_width = layer.out_width;
  inputs_changed_.swap(changed_);
  changed_.resize(size_t{1} * layer.out_height * out_width);
  rows_changed_.resize(width);
  for (int y = 0; y < layer.out_height; y++) {
    const uint8_t* row = inputs_changed_.data() + kStride * y * width;
    uint8_t* changed = changed_.data() + y * out_width;
    uint8_t* any = rows_changed_.data();
    for (int x = 0; x < width; x++) {
      any[x] =
          row[x] | row[x + width] | row[x + 2 * width] | row[x + 3 * width];
    }
    if (!std::memchr(rows_changed_.data(), 1, width)) {
      std::fill_n(changed, out_width, 0);
      continue;
    }
    for (int x = 0; x < out_width; x++) {
      const uint8_t* in = rows_changed_.data() + kStride * x;
      changed[x] = in[0] | in[1] | in[2] | in[3];
    }
  }
}

void ConvNetwork::Apply(const float* in, Layer& layer) {
  const int row_size = layer.width * layer.channels;
  const int step = kStride * layer.channels;
  starts_.clear();
  places_.clear();
  const uint8_t *begin = changed_.data(), *end = begin + changed_.size();
  for (const uint8_t* at = begin; at < end; at++) {
    at = static_cast<const uint8_t*>(std::memchr(at, 1, end - at));
    if (!at) break;
    const int place = static_cast<int>(at - begin);
    const int y = place / layer.out_width, x = place % layer.out_width;
    starts_.push_back(kStride * y * row_size + x * step);
    places_.push_back(place * layer.filters);
  }
  float* out = layer.out.data();
  Convolve(theta_.data() + layer.first, in, starts_.data(), row_size,
           kKernel * layer.channels, layer.filters,
           static_cast<int>(starts_.size()), out, places_.data());
  for (const int place : places_) {
    Activate(head_.activation, out + place, layer.filters);
  }
}

void ConvNetwork::Forward(const uint8_t* pixels, float* out) {
  FindChanged(pixels);
  const float* in = input_.data();
  for (Layer& layer : layers_) {
    SpreadChanged(layer);
    Apply(in, layer);
    in = layer.out.data();
  }
  trpo_tf::Forward(head_, theta_.data() + theta_.size() - head_.NumParameters(),
                   in, scratch_.data(), out);
}

}  // namespace trpo_tf
