#ifndef TRPO_TF_CSRC_CHECK_H_
#define TRPO_TF_CSRC_CHECK_H_

#include <stdexcept>

namespace trpo_tf {

// Throws what Python sees as a ValueError unless the condition holds.
inline void Require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_CHECK_H_
