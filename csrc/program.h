// A task's observation, reward and termination as a flat program over one
// register file of doubles: [constants | action | prev values | temporaries |
// outputs]. Python compiles it (trpo_tf/tasks/program.py); this file runs it.
#ifndef TRPO_TF_CSRC_PROGRAM_H_
#define TRPO_TF_CSRC_PROGRAM_H_

#include <mujoco/mujoco.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace trpo_tf {

// operations; OpNames() lists their names in this order
enum Op : int32_t {
  kLoad,  // dst[i] = element b + i*sb of the field at byte a of mjData
  kCopy,
  kNegate,
  kAbs,
  kSin,
  kCos,
  kExp,
  kSquare,
  kSqrt,
  kNot,
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kMinimum,
  kMaximum,
  kLess,
  kLessEqual,
  kAnd,
  kOr,
  kClip,   // a clipped to [b, c]; a NaN stays NaN
  kWhere,  // a != 0 ? b : c
  kSum,    // reductions: n inputs, one output
  kNorm,   // Euclidean
  kAll,    // all nonzero
  kAllFinite,
  kWeightedSum  // dst[j] = sum_i a[i] * b[i*c + j], j < c
};

const std::vector<std::string>& OpNames();

// n elements; operand x of element i is register x + i*sx
struct Instruction {
  int32_t op, n, dst, a, sa, b, sb, c, sc;
};

// an mjData field of mjtNum that a program may read
struct Field {
  const char* name;
  size_t offset;  // of its pointer in mjData
};

const std::vector<Field>& Fields();

// derived quantities that mj_step leaves out and a program may need
enum Derived : int32_t {
  kPostConstraint = 1,  // mj_rnePostConstraint: cacc, cfrc_int, cfrc_ext
  kSubtreeVelocity = 2  // mj_subtreeVel: subtree_linvel, subtree_angmom
};

struct Program {
  std::vector<Instruction> code;
  std::vector<double> constants;  // the first registers
  int num_registers;
  int action;                // register of the action
  int prev, num_prev;        // registers of the values one step before
  std::vector<int> current;  // registers whose values become prev's
  int reset_passes;          // evaluations that settle nested prevs at a reset
  int outputs;               // observation, reward, terminated, named terms
  int num_outputs, observation_size;
  int derived;
};

// Runs the code once: reads d and the registers, writes the registers.
// Precondition: every register and field element named by the code exists.
// Calls nothing of MuJoCo and holds nothing that a longjmp could leak.
void Evaluate(const Instruction* code, int size, const mjData* d, double* r);

// Computes the derived quantities that the program reads.
void ComputeDerived(const mjModel* m, mjData* d, int derived);

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_PROGRAM_H_
