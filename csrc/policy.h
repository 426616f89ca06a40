// The policy network, evaluated inside the step loop. It computes in float32
// what trpo_tf/policies/mlp.py computes in TensorFlow, to about 1e-6.
#ifndef TRPO_TF_CSRC_POLICY_H_
#define TRPO_TF_CSRC_POLICY_H_

#include <cstdint>
#include <vector>

// These make vector code for newer processors beside the portable one. Both
// round a multiply-add once and add each output's terms in the same order, so
// both give the same bits. AVX-512 is left out: it slows the physics around it
// (measured, 6 %). Under the thread sanitizer the choice between them, made
// while the library is loaded, would crash.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__)
#define TRPO_TF_VECTORIZE __attribute__((target_clones("fma", "default")))
#define TRPO_TF_INLINE inline __attribute__((always_inline))
#else
#define TRPO_TF_VECTORIZE
#define TRPO_TF_INLINE inline
#endif

namespace trpo_tf {

enum Activation : int32_t { kTanh, kSoftplus, kRelu };

// theta is [W1 (in x out, row-major), b1, W2, b2, ...], then log deviations
struct Network {
  std::vector<int> sizes;  // inputs, hidden layers, outputs
  Activation activation;

  int Width() const;              // of the widest layer
  int64_t NumParameters() const;  // weights and biases
};

// Throws unless these are layers from so many inputs to so many outputs.
void CheckNetwork(const Network& net, int64_t inputs, int outputs);

// Writes the network's output for input x into `out`; the last layer is
// linear. `scratch` holds 2 * Width() floats; x and out may not overlap it.
void Forward(const Network& net, const float* theta, const float* x,
             float* scratch, float* out);

// x[i] = tanh(x[i]), within 4e-7 of the exact value.
void Tanh(float* x, int n);

// Applies an activation to x[0], ..., x[n - 1].
void Activate(Activation activation, float* x, int n);

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_POLICY_H_
