// A convolutional policy network, evaluated between an emulator's steps. It
// computes in float32 what trpo_tf/policies/conv.py computes in TensorFlow, to
// about 1e-6.
//
// From one observation of a game to the next most patches of pixels stay as
// they are, and so does what the network makes of them. The activations are
// kept, and only those of changed patches are computed again: the bits are
// those of a computation from nothing.
#ifndef TRPO_TF_CSRC_CONV_H_
#define TRPO_TF_CSRC_CONV_H_

#include <cstdint>
#include <vector>

#include "policy.h"

namespace trpo_tf {

// theta is [K1 (4 x 4 x in x out, row-major), b1, K2, b2, ...], then the head's
class ConvNetwork {
 public:
  // The head has hidden layers of `hidden` units before its outputs. Throws
  // where a size is not positive or a kernel does not fit.
  ConvNetwork(int height, int width, int channels,
              const std::vector<int>& filters, const std::vector<int>& hidden,
              int outputs, Activation activation);

  int NumParameters() const { return static_cast<int>(theta_.size()); }
  int NumOutputs() const { return head_.sizes.back(); }

  void SetParameters(const float* theta);

  // Writes the network's outputs for an observation, its channels innermost.
  void Forward(const uint8_t* pixels, float* out);

 private:
  struct Layer {
    int height, width, channels;  // of its input
    int out_height, out_width, filters;
    int first;  // of its parameters in theta
    std::vector<float> out;
  };

  // Finds the pixels that changed, keeps them and scales them as input_.
  void FindChanged(const uint8_t* pixels);
  // From a layer's inputs that changed to its patches that did.
  void SpreadChanged(const Layer& layer);
  // Computes those patches.
  void Apply(const float* in, Layer& layer);

  std::vector<Layer> layers_;
  Network head_;  // the dense layers
  std::vector<float> theta_, input_, scratch_;
  std::vector<uint8_t> pixels_;  // of the last observation
  bool fresh_ = true;            // nothing is kept
  std::vector<uint8_t> changed_, inputs_changed_, rows_changed_;
  std::vector<int> starts_, places_;  // of the patches that changed
};

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_CONV_H_
