// A task's observation, reward and termination are a flat program over one
// register file of doubles: [constants | action | prev values | temporaries |
// outputs]. Python compiles it (trpo_tf/tasks/program.py) and this file runs
// it.
#ifndef TRPO_TF_CSRC_PROGRAM_H_
#define TRPO_TF_CSRC_PROGRAM_H_

#include <mujoco/mujoco.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "arrays.h"

namespace trpo_tf {

// Returns the names of the operations, in the order of their numbers.
const std::vector<std::string>& OpNames();

// An Instruction computes n elements. Operand x of element i is register x +
// i*sx.
struct Instruction {
  int32_t op, n, dst, a, sa, b, sb, c, sc;
};

// A Field is one of mjData that holds mjtNum, which a program may read.
struct Field {
  const char* name;
  size_t offset;  // of its pointer in mjData
  int64_t (*size)(const mjModel* m);
};

const std::vector<Field>& Fields();

// A program may need these derived quantities, which mj_step leaves out.
enum Derived : int32_t {
  kPostConstraint = 1,  // mj_rnePostConstraint: cacc, cfrc_int, cfrc_ext
  kSubtreeVelocity = 2  // mj_subtreeVel: subtree_linvel, subtree_angmom
};

struct Program {
  Arrays in;
  std::vector<Instruction> code = TakeCode(in);
  // the first registers
  std::vector<double> constants = in.Get<std::vector<double>>("constants");
  // registers whose values become those of prev
  std::vector<int> current = in.Get<std::vector<int>>("current");
  int num_registers = in.Get<int>("num_registers");
  int action = in.Get<int>("action");  // first register of the action
  int prev = in.Get<int>("prev");      // of the values one step before
  int num_prev = static_cast<int>(current.size());
  // evaluations that settle nested prevs at a reset
  int reset_passes = in.Get<int>("reset_passes");
  int outputs = in.Get<int>("outputs");  // of the outputs
  int num_outputs = in.Get<int>("num_outputs");
  int observation_size = in.Get<int>("observation_size");
  int derived = in.Get<int>("derived");

  static std::vector<Instruction> TakeCode(Arrays& in);
};

// Throws unless every register and field element that the program names exists.
void CheckProgram(const Program& program, const mjModel* m);

// Runs a checked program once: reads d and the registers, writes the registers.
// Calls nothing of MuJoCo and holds nothing that a longjmp could
// leak.
void Evaluate(const Program& program, const mjData* d, double* r);

// Computes the derived quantities that the program reads.
void ComputeDerived(const mjModel* m, mjData* d, int derived);

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_PROGRAM_H_
