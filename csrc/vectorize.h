#ifndef TRPO_TF_CSRC_VECTORIZE_H_
#define TRPO_TF_CSRC_VECTORIZE_H_

// Vector code for newer processors beside the portable one. Both round a
// multiply-add once and add each output's terms in the same order, so both give
// the same bits. No AVX-512: it slows the physics around it (measured, 6 %).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TRPO_TF_VECTORIZE __attribute__((target_clones("fma", "default")))
#define TRPO_TF_INLINE inline __attribute__((always_inline))
#else
#define TRPO_TF_VECTORIZE
#define TRPO_TF_INLINE inline
#endif

#endif  // TRPO_TF_CSRC_VECTORIZE_H_
