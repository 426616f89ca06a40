// From an emulator's screens to the frames that a policy sees.
#ifndef TRPO_TF_CSRC_ATARI_SCREEN_H_
#define TRPO_TF_CSRC_ATARI_SCREEN_H_

#include <cstdint>
#include <vector>

#include "check.h"

namespace trpo_tf {

// How `pixels` pixels are averaged over `results` equal parts, one part after
// the other: the pixels from starts[i] on, with the weights of part i, which
// add up to `total`. All parts have `taps` weights, the last ones may be 0.
struct Parts {
  std::vector<int> starts;
  std::vector<uint16_t> weights;
  int total, taps;

  // least_taps: for loops whose length the compiler knows
  Parts(int pixels, int results, int least_taps = 0);
};

// Two consecutive screens of an emulator and the frame that they make: the mean
// of the brighter of the two, in grey, over height x width areas of the rows
// that are seen, rounded to the nearest, halves up.
//
// From one frame of a game to the next most rows stay as they are. Only those
// that change are looked at.
class Screens {
 public:
  struct Shape {
    int height, width;  // of a screen
    int top, bottom;    // first and last (exclusive) row that is seen
    int rows, columns;  // of a frame
  };

  // Throws unless these sizes can be averaged exactly.
  explicit Screens(const Shape& shape);

  const Shape& shape() const { return shape_; }

  // Where the first (0) or the second (1) screen is to be written.
  uint8_t* Now(int place) {
    Require(place == 0 || place == 1, "there are two screens");
    return now_[place].data();
  }

  // Takes what was written there. Returns whether the grey values of all its
  // colours are known. `Learn` has to follow if they are not.
  bool See(int place);

  // Learns grey values from that screen in grey.
  void Learn(int place, const uint8_t* grey);

  // Writes the frame of the second screen (1) or of both (2).
  void Frame(int count, uint8_t* out);

 private:
  // Computes a row of areas of the pixels that begin at these.
  void Row(const uint8_t* first, const uint8_t* second, int index,
           uint8_t* out);

  Shape shape_;
  Parts rows_, columns_;
  uint64_t total_, inverse_;
  std::vector<uint16_t> table_;            // grey values of colours
  std::vector<uint8_t> now_[2], seen_[2];  // screens; seen_ of `See`
  std::vector<uint8_t> changed_;           // rows, since the last frame
  std::vector<uint8_t> pooled_;            // of a row of areas
  std::vector<uint16_t> sums_;
  std::vector<uint8_t> frame_;  // the last one, of count_ screens
  int count_ = 0;
};

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_ATARI_SCREEN_H_
