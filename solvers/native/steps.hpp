// Memory that steps up and down: what a change adds to places, as a few sorted steps.
//
// Invariant: places ascend; the sizes add up to nothing. `sum` and `apply` run over flat arrays.

#pragma once

#include "problem.hpp"

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define POET_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define POET_WIDE
#endif

namespace poet {

inline double over(double memory) { return memory > 0 ? memory : 0.0; }

// The change of the excess where memory changes by `size`. Bytes are whole numbers below 2^53, so the
// order of the sum does not matter.
POET_WIDE inline double wide_change(const double* memory, int count, double size) {
    double change = 0;
#pragma omp simd reduction(+ : change)
    for (int k = 0; k < count; ++k) {
        double old = memory[k], next = old + size;
        change += (next > 0 ? next : 0.0) - (old > 0 ? old : 0.0);
    }
    return change;
}
POET_WIDE inline void wide_add(double* memory, int count, double size) {
#pragma omp simd
    for (int k = 0; k < count; ++k) memory[k] += size;
}
inline double change_of(const double* memory, int count, double size) {
    if (count > 12) return wide_change(memory, count, size);
    double change = 0;
    for (int k = 0; k < count; ++k) change += over(memory[k] + size) - over(memory[k]);
    return change;
}
inline void add_size(double* memory, int count, double size) {
    if (count > 12) return wide_add(memory, count, size);
    for (int k = 0; k < count; ++k) memory[k] += size;
}

class Steps {
  public:
    struct Step {
        int place;
        double size;
    };
    const Step* begin() const { return steps_.data(); }
    int count() const { return count_; }
    void clear() { count_ = 0; }
    void add(int from, int until, double size) {
        if (from >= until || size == 0) return;
        bump(from, size);
        bump(until, -size);
    }
    double sum(const double* memory) const {
        double level = 0, change = 0;
        for (int i = 0; i + 1 < count_; ++i) {
            level += steps_[i].size;
            if (level == 0) continue;
            change += change_of(memory + steps_[i].place, steps_[i + 1].place - steps_[i].place, level);
        }
        return change;
    }
    double at(int place) const {
        double level = 0;
        for (int i = 0; i < count_ && steps_[i].place <= place; ++i) level += steps_[i].size;
        return level;
    }
    static void apply(const Step* steps, int count, double* memory, double sign) {
        double level = 0;
        for (int i = 0; i + 1 < count; ++i) {
            level += steps[i].size;
            if (level == 0) continue;
            add_size(memory + steps[i].place, steps[i + 1].place - steps[i].place, sign * level);
        }
    }

  private:
    int count_ = 0;
    std::vector<Step> steps_ = std::vector<Step>(64);

    void bump(int place, double size) {
        int i = count_;
        while (i > 0 && steps_[i - 1].place > place) --i;
        if (i > 0 && steps_[i - 1].place == place) {
            steps_[i - 1].size += size;
            return;
        }
        if (count_ == static_cast<int>(steps_.size())) steps_.resize(2 * steps_.size());
        for (int k = count_++; k > i; --k) steps_[k] = steps_[k - 1];
        steps_[i] = {place, size};
    }
};

}  // namespace poet
