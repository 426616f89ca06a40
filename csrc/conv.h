// A convolutional policy network, evaluated between the emulators' steps. It
// computes in float32 what trpo_tf/policies/conv.py computes in TensorFlow, to
// about 1e-6.
//
// From one observation of a game to the next most patches of pixels stay as
// they are, and so does what the network makes of them. A slot's activations
// are kept, and only those of changed patches are computed again: the bits are
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
  // `hidden` are the units of the head's hidden layers, before `outputs`.
  ConvNetwork(int height, int width, int channels,
              const std::vector<int>& filters, const std::vector<int>& hidden,
              int outputs, Activation activation, int slots);

  int NumParameters() const { return static_cast<int>(theta_.size()); }
  int NumInputs() const { return static_cast<int>(input_.size()); }
  int NumOutputs() const { return head_.sizes.back(); }
  int NumSlots() const { return static_cast<int>(slots_.size()); }

  // Sets the parameters, unless they are the same.
  void SetParameters(const float* theta);

  // Writes the network's outputs for the observations of n slots from `first`
  // on, their channels innermost, into `out`.
  void Forward(int first, int n, const uint8_t* pixels, float* out);

 private:
  struct Layer {
    int height, width, channels;  // of its input
    int out_height, out_width, filters;
    int first;  // of its parameters in theta
    int Size() const { return out_height * out_width * filters; }
  };
  struct Slot {
    std::vector<uint8_t> pixels;  // of its last observation, or empty
    std::vector<std::vector<float>> activations;  // of all layers but the last
  };

  int NumFeatures() const { return head_.sizes.front(); }

  // Finds the pixels that changed, keeps them and scales them as input_.
  void FindChanged(Slot& slot, const uint8_t* pixels);
  // From a layer's inputs that changed to its patches that did.
  void SpreadChanged(const Layer& layer);
  // Computes those patches.
  void Apply(const Layer& layer, const float* in, float* out) const;
  // The dense layers; n states at a time share the first one's many weights.
  void ApplyHead(const float* features, int n, float* out);

  std::vector<Layer> layers_;
  Network head_, rest_;  // the dense layers, and those but the first
  std::vector<float> theta_, features_;  // features by slot
  std::vector<float> input_, hidden_, scratch_;
  std::vector<Slot> slots_;
  std::vector<uint8_t> changed_, inputs_changed_, rows_changed_;
};

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_CONV_H_
