#include "program.h"

#include <mujoco/mjxmacro.h>

#include <cmath>
#include <type_traits>

#include "check.h"

namespace trpo_tf {
namespace {

// The table gives each operation's name and what it does, in the order of the
// operations' numbers. A NaN among the inputs of arithmetic makes a NaN, which
// is a failure. Those from kSum to kAllFinite reduce n inputs to one output.
// clang-format off: a table reads best a line each
#define OPERATIONS(X)                                                          \
  X(kLoad, "load", Load(in, d, r))                                             \
  X(kCopy, "copy", EACH(x))                                                    \
  X(kNegate, "negate", EACH(-x))                                               \
  X(kAbs, "abs", EACH(std::fabs(x)))                                           \
  X(kSin, "sin", EACH(std::sin(x)))                                            \
  X(kCos, "cos", EACH(std::cos(x)))                                            \
  X(kExp, "exp", EACH(std::exp(x)))                                            \
  X(kSquare, "square", EACH(x * x))                                            \
  X(kSqrt, "sqrt", EACH(std::sqrt(x)))                                         \
  X(kNot, "not", EACH(x == 0))                                                 \
  X(kAdd, "add", EACH(x + y))                                                  \
  X(kSubtract, "subtract", EACH(x - y))                                        \
  X(kMultiply, "multiply", EACH(x * y))                                        \
  X(kDivide, "divide", EACH(x / y))                                            \
  X(kMinimum, "minimum", EACH(y < x || y != y ? y : x))                        \
  X(kMaximum, "maximum", EACH(y > x || y != y ? y : x))                        \
  X(kLess, "less", EACH(x < y))                                                \
  X(kLessEqual, "less_equal", EACH(x <= y))                                    \
  X(kAnd, "and", EACH(x != 0 && y != 0))                                       \
  X(kOr, "or", EACH(x != 0 || y != 0))                                         \
  X(kClip, "clip", EACH(x < y || y != y ? y : x > z || z != z ? z : x))        \
  X(kWhere, "where", EACH(x != 0 ? y : z))                                     \
  X(kSum, "sum", out[0] = PairwiseSum(a, sa, n))                               \
  X(kNorm, "norm", out[0] = Norm(a, sa, n))                                    \
  X(kAll, "all", out[0] = Every(a, sa, n, IsTrue))                             \
  X(kAllFinite, "all_finite", out[0] = Every(a, sa, n, IsFinite))              \
  X(kWeightedSum, "weighted_sum", WeightedSum(in, r))                          \
  X(kTanh, "tanh", Map(in, r, Tanh))                                           \
  X(kLog, "log", Map(in, r, Log))                                              \
  X(kAtan2, "atan2", Map(in, r, Atan2))                                        \
  X(kPower, "power", Map(in, r, Power))                                        \
  X(kTime, "time", out[0] = d->time)
// clang-format on

#define NUMBER(op, name, action) op,
enum Op : int32_t { OPERATIONS(NUMBER) };

}  // namespace

const std::vector<std::string>& OpNames() {
#define NAME(op, name, action) name,
  static const std::vector<std::string> names = {OPERATIONS(NAME)};
  return names;
}

const std::vector<Field>& Fields() {
  static const std::vector<Field> fields = [] {
    std::vector<Field> list;
#define X(type, name, rows, columns)                                      \
  if constexpr (std::is_same_v<type, mjtNum>) {                           \
    list.push_back(                                                       \
        {#name, offsetof(mjData, name), [](const mjModel* m) -> int64_t { \
           return int64_t{1} * m->rows * (columns);                       \
         }});                                                             \
  }
    MJDATA_POINTERS
#undef X
    return list;
  }();
  return fields;
}

namespace {

// Sums in NumPy's order, so that a sum equals np.sum bit for bit.
double PairwiseSum(const double* x, int stride, int n) {
  if (n < 8) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i * stride];
    return sum;
  }
  if (n <= 128) {
    double s[8];
    for (int j = 0; j < 8; j++) s[j] = x[j * stride];
    int i = 8;
    for (; i + 8 <= n; i += 8) {
      for (int j = 0; j < 8; j++) s[j] += x[(i + j) * stride];
    }
    double sum =
        ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    for (; i < n; i++) sum += x[i * stride];
    return sum;
  }
  int half = n / 2;
  half -= half % 8;
  return PairwiseSum(x, stride, half) +
         PairwiseSum(x + half * stride, stride, n - half);
}

// Returns the Euclidean norm.
double Norm(const double* x, int stride, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += x[i * stride] * x[i * stride];
  return std::sqrt(sum);
}

bool IsTrue(double x) { return x != 0; }
bool IsFinite(double x) { return std::isfinite(x); }

template <typename Predicate>
double Every(const double* x, int stride, int n, Predicate holds) {
  for (int i = 0; i < n; i++) {
    if (!holds(x[i * stride])) return 0;
  }
  return 1;
}

const double* FieldAt(const mjData* d, int offset) {
  const char* base = reinterpret_cast<const char*>(d);
  return *reinterpret_cast<double* const*>(base + offset);
}

// Sets dst[i] to element b + i*sb of the field at byte a of mjData.
void Load(const Instruction& in, const mjData* d, double* r) {
  const double* field = FieldAt(d, in.a) + in.b;
  for (int i = 0; i < in.n; i++) r[in.dst + i] = field[i * in.sb];
}

// Sets dst[j] to sum_i a[i] * b[i*c + j] for j < c.
void WeightedSum(const Instruction& in, double* r) {
  for (int j = 0; j < in.c; j++) {
    double sum = 0;
    for (int i = 0; i < in.n; i++) {
      sum += r[in.a + i * in.sa] * r[in.b + i * in.c + j];
    }
    r[in.dst + j] = sum;
  }
}

double Tanh(double x, double) { return std::tanh(x); }
double Log(double x, double) { return std::log(x); }
double Atan2(double y, double x) { return std::atan2(y, x); }
double Power(double x, double y) { return std::pow(x, y); }

// Sets dst[i] to f(a[i], b[i]). It stays a call, which takes no registers of
// the processor from the loops of faster operations.
[[gnu::noinline]] void Map(const Instruction& in, double* r,
                           double (*f)(double, double)) {
  for (int i = 0; i < in.n; i++) {
    r[in.dst + i] = f(r[in.a + i * in.sa], r[in.b + i * in.sb]);
  }
}

// Returns whether n elements, `stride` apart, exist among `size`.
bool Inside(int64_t start, int64_t stride, int64_t n, int64_t size) {
  const int64_t last = start + stride * (n - 1);
  return n >= 1 && start >= 0 && start < size && last >= 0 && last < size;
}

// Returns how many registers an instruction writes.
int64_t Written(const Instruction& in) {
  if (in.op == kWeightedSum) return in.c;
  const bool reduces = in.op >= kSum && in.op <= kAllFinite;
  return reduces || in.op == kTime ? 1 : in.n;
}

// Returns whether all that an instruction reads and writes exists.
bool Exists(const Instruction& in, int64_t registers, const mjModel* m) {
  if (in.op < 0 || in.op >= static_cast<int>(OpNames().size())) return false;
  const bool sums = in.op == kWeightedSum;
  const int64_t n = in.n;
  if (!Inside(in.dst, 1, Written(in), registers)) return false;
  if (in.op == kLoad) {
    for (const Field& field : Fields()) {
      if (field.offset != static_cast<size_t>(in.a)) continue;
      return Inside(in.b, in.sb, n, field.size(m));
    }
    return false;
  }
  return Inside(in.a, in.sa, n, registers) &&
         (sums ? Inside(in.b, 1, n * in.c, registers)
               : Inside(in.b, in.sb, n, registers) &&
                     Inside(in.c, in.sc, n, registers));
}

}  // namespace

std::vector<Instruction> Program::TakeCode(Arrays& in) {
  const int size = in.Size("code", 2, 0);
  const auto* code = reinterpret_cast<const Instruction*>(
      in.Take<const int32_t>("code", {size, 9}));
  return {code, code + size};
}

void CheckProgram(const Program& p, const mjModel* m) {
  const auto block = [&](int64_t first, int64_t n) {
    return first >= 0 && n >= 0 && first + n <= p.num_registers;
  };
  bool good = block(0, static_cast<int64_t>(p.constants.size())) &&
              block(p.action, m->nu) && block(p.prev, p.num_prev) &&
              block(p.outputs, p.num_outputs) && p.observation_size >= 1 &&
              p.num_outputs >= p.observation_size + 2 && p.reset_passes >= 1 &&
              p.reset_passes <= p.num_prev + 1;
  for (int i : p.current) good = good && block(i, 1);
  // More registers than anything writes would only fill the memory.
  int64_t written = static_cast<int64_t>(p.constants.size()) + m->nu +
                    p.num_prev + p.num_outputs;
  for (const Instruction& in : p.code) {
    good = good && Exists(in, p.num_registers, m);
    written += Written(in);
  }
  good = good && p.num_registers <= written;
  Require(good, "malformed task program");
}

void Evaluate(const Program& program, const mjData* d, double* r) {
  for (const Instruction& in : program.code) {
    double* out = r + in.dst;
    const double *a = r + in.a, *b = r + in.b, *c = r + in.c;
    const int n = in.n, sa = in.sa, sb = in.sb, sc = in.sc;
#define EACH(result)                                                           \
  for (int i = 0; i < n; i++) {                                                \
    [[maybe_unused]] const double x = a[i * sa], y = b[i * sb], z = c[i * sc]; \
    out[i] = (result);                                                         \
  }
#define CASE(op, name, action) \
  case op:                     \
    action;                    \
    break;
    switch (static_cast<Op>(in.op)) { OPERATIONS(CASE) }
  }
}

void ComputeDerived(const mjModel* m, mjData* d, int derived) {
  if (derived & kPostConstraint) mj_rnePostConstraint(m, d);
  if (derived & kSubtreeVelocity) mj_subtreeVel(m, d);
}

}  // namespace trpo_tf
