#include "policy.h"

#include <algorithm>
#include <cmath>

// Vector code for newer processors beside the portable one. Neither contracts
// multiply and add, and each output's terms are added in the same order, so
// both give the same bits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TRPO_TF_VECTORIZE __attribute__((target_clones("avx2", "default")))
#else
#define TRPO_TF_VECTORIZE
#endif

namespace trpo_tf {

int Network::Width() const {
  return *std::max_element(sizes.begin(), sizes.end());
}

int Network::NumParameters() const {
  int count = 0;
  for (size_t i = 1; i < sizes.size(); i++)
    count += (sizes[i - 1] + 1) * sizes[i];
  return count;
}

namespace {

// out = x W + b; walks W row by row so that the inner loop has no reduction
TRPO_TF_VECTORIZE
void Affine(const float* weights, const float* x, int rows, int columns,
            float* out) {
  const float* bias = weights + rows * columns;
  for (int j = 0; j < columns; j++) out[j] = 0;
  for (int i = 0; i < rows; i++) {
    const float* row = weights + i * columns;
    const float xi = x[i];
    for (int j = 0; j < columns; j++) out[j] += xi * row[j];
  }
  for (int j = 0; j < columns; j++) out[j] += bias[j];
}

void Softplus(float* x, int n) {
  for (int i = 0; i < n; i++) {
    x[i] = std::max(x[i], 0.0f) + std::log1p(std::exp(-std::fabs(x[i])));
  }
}

}  // namespace

// A rational function of x^2, fitted on [-8, 8] to a relative error of 7e-9;
// libm's tanh would cost three times the rest of a 64-64 network.
TRPO_TF_VECTORIZE
void Tanh(float* x, int n) {
  for (int i = 0; i < n; i++) {
    const float c = x[i] < -8.0f ? -8.0f : x[i] > 8.0f ? 8.0f : x[i];
    const float s = c * c;
    float p = 1.5230766e-08f;
    p = p * s + 2.1894908e-05f;
    p = p * s + 3.5716128e-03f;
    p = p * s + 1.3444510e-01f;
    p = p * s + 1.0f;
    float q = 8.5225872e-07f;
    q = q * s + 3.4113164e-04f;
    q = q * s + 2.6164500e-02f;
    q = q * s + 4.6777838e-01f;
    q = q * s + 1.0f;
    x[i] = c * p / q;
  }
}

void Forward(const Network& net, const float* theta, const float* x,
             float* scratch, float* out) {
  const int last = static_cast<int>(net.sizes.size()) - 1, width = net.Width();
  for (int layer = 1; layer <= last; layer++) {
    const int rows = net.sizes[layer - 1], columns = net.sizes[layer];
    float* y = layer == last ? out : scratch + (layer % 2) * width;
    Affine(theta, x, rows, columns, y);
    if (layer < last) {
      net.activation == kTanh ? Tanh(y, columns) : Softplus(y, columns);
    }
    theta += (rows + 1) * columns;
    x = y;
  }
}

}  // namespace trpo_tf
