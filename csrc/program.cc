#include "program.h"

#include <mujoco/mjxmacro.h>

#include <cmath>
#include <type_traits>

namespace trpo_tf {

const std::vector<std::string>& OpNames() {
  static const std::vector<std::string> names = {
      "load",     "copy",       "negate",      "abs",     "sin",  "cos",
      "exp",      "square",     "sqrt",        "not",     "add",  "subtract",
      "multiply", "divide",     "minimum",     "maximum", "less", "less_equal",
      "and",      "or",         "clip",        "where",   "sum",  "norm",
      "all",      "all_finite", "weighted_sum"};
  return names;
}

const std::vector<Field>& Fields() {
  static const std::vector<Field> fields = [] {
    std::vector<Field> list;
#define X(type, name, rows, columns)                 \
  if constexpr (std::is_same_v<type, mjtNum>) {      \
    list.push_back({#name, offsetof(mjData, name)}); \
  }
    MJDATA_POINTERS
#undef X
    return list;
  }();
  return fields;
}

namespace {

// NumPy's order of summation, so that a sum equals np.sum bit for bit
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

void WeightedSum(const Instruction& in, double* r) {
  for (int j = 0; j < in.c; j++) {
    double sum = 0;
    for (int i = 0; i < in.n; i++) {
      sum += r[in.a + i * in.sa] * r[in.b + i * in.c + j];
    }
    r[in.dst + j] = sum;
  }
}

}  // namespace

void Evaluate(const Instruction* code, int size, const mjData* d, double* r) {
  for (int k = 0; k < size; k++) {
    const Instruction& in = code[k];
    double* out = r + in.dst;
    const double *a = r + in.a, *b = r + in.b, *c = r + in.c;
    const int n = in.n, sa = in.sa, sb = in.sb, sc = in.sc;
    // clang-format off: a table of operations reads best a line each
#define EACH(expression)                                        \
  for (int i = 0; i < n; i++) {                                 \
    [[maybe_unused]] const double x = a[i * sa], y = b[i * sb]; \
    out[i] = (expression);                                      \
  }                                                             \
  break;
    switch (static_cast<Op>(in.op)) {
      case kLoad: {
        const double* field = FieldAt(d, in.a) + in.b;
        for (int i = 0; i < n; i++) out[i] = field[i * sb];
        break;
      }
      case kCopy: EACH(x)
      case kNegate: EACH(-x)
      case kAbs: EACH(std::fabs(x))
      case kSin: EACH(std::sin(x))
      case kCos: EACH(std::cos(x))
      case kExp: EACH(std::exp(x))
      case kSquare: EACH(x * x)
      case kSqrt: EACH(std::sqrt(x))
      case kNot: EACH(x == 0)
      case kAdd: EACH(x + y)
      case kSubtract: EACH(x - y)
      case kMultiply: EACH(x * y)
      case kDivide: EACH(x / y)
      case kMinimum: EACH(y < x ? y : x)
      case kMaximum: EACH(y > x ? y : x)
      case kLess: EACH(x < y)
      case kLessEqual: EACH(x <= y)
      case kAnd: EACH(x != 0 && y != 0)
      case kOr: EACH(x != 0 || y != 0)
      case kClip: EACH(x < y ? y : x > c[i * sc] ? c[i * sc] : x)
      case kWhere: EACH(x != 0 ? y : c[i * sc])
      case kSum: out[0] = PairwiseSum(a, sa, n); break;
      case kNorm: out[0] = Norm(a, sa, n); break;
      case kAll: out[0] = Every(a, sa, n, IsTrue); break;
      case kAllFinite: out[0] = Every(a, sa, n, IsFinite); break;
      case kWeightedSum: WeightedSum(in, r); break;
    }
#undef EACH
    // clang-format on
  }
}

void ComputeDerived(const mjModel* m, mjData* d, int derived) {
  if (derived & kPostConstraint) mj_rnePostConstraint(m, d);
  if (derived & kSubtreeVelocity) mj_subtreeVel(m, d);
}

}  // namespace trpo_tf
