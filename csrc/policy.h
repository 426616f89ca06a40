// The policy network, evaluated inside the step loop. It computes in float32
// what trpo_tf/policies/mlp.py computes in TensorFlow, to about 1e-6.
#ifndef TRPO_TF_CSRC_POLICY_H_
#define TRPO_TF_CSRC_POLICY_H_

#include <cstdint>
#include <vector>

namespace trpo_tf {

enum Activation : int32_t { kTanh, kSoftplus };

// theta is [W1 (in x out, row-major), b1, W2, b2, ...], then log deviations
struct Network {
  std::vector<int> sizes;  // inputs, hidden layers, outputs
  Activation activation;

  int Width() const;          // of the widest layer
  int NumParameters() const;  // weights and biases
};

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
