// What the search is given and what it answers: plain tables, filled by poet_solvers/search.py.
//
// Values are (storage, version) pairs. Those of zero bytes are here only where an op gives them: they
// carry order and no memory. A generator's state is a value too: it is in use from the first to the
// last run of its op, and only where there are two. Invariant: nothing here changes during a search.

#pragma once

#include <array>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

namespace poet {

using Ints = std::vector<int>;
using Table = std::vector<Ints>;
using Numbers = std::vector<double>;

// What a run or a transfer adds to a step: the objective as if transfers were never hidden, seconds
// of compute, seconds of the I/O lane, joules without idle power, bytes written to flash.
enum Amount { COST, COMPUTE, LANE, JOULES, WRITES, AMOUNTS };
using Amounts = std::array<double, AMOUNTS>;

inline void add_to(Amounts& sum, const Amounts& other, double times = 1.0) {
    for (int i = 0; i < AMOUNTS; ++i) sum[i] += times * other[i];
}

struct Problem {
    Table needed, written, mutated;           // values by op
    Table uses;                               // by op: the needed values that take memory
    Ints generator;                           // by op: the value of its generator state, or -1
    Numbers workspace;                        // by op
    std::vector<Amounts> run;                 // by op
    Ints may_rerun;                           // by op, 0 or 1
    Table superseders;                        // by op: ops after whose first run it may not run again
    Ints random_before, random_after;         // by op: the random op before and after it, or -1
    Numbers size;                             // by value
    std::vector<Amounts> in, out;             // by value: page_in and page_out
    Numbers flash;                            // by value: exact bytes
    Ints producer, storage;                   // by value; producer -1: before the step
    Ints earlier, later;                      // by value: the version before and after it, or -1
    Ints begins;                              // values that begin in RAM and are not persistent
    std::vector<std::pair<int, int>> persistent;  // first and last value of each persistent storage
    Ints results;                             // values wanted in RAM at the end
    double budget = 0;
    bool page = true, rematerialize = true, reorder = false;
    bool overlap = false, time = false;       // transfers beside compute; the objective is time
    double idle_watts = 0;
    double most_seconds = 0, most_joules = 0, most_flash = 0, most_writes = 0;  // below 0: no limit

    bool is_generator(int v) const { return producer[v] == generator_mark; }
    static constexpr int generator_mark = -2;
};

struct Start {
    Ints runs;                               // ops in order, first runs and others
    std::vector<std::pair<int, int>> paged;  // (value, place in runs; runs.size() is END)
    Ints start_ram;                          // 0 or 1 by persistent storage
};

// `paged` has (value, place, place before which it is issued), `late` (value, place, place after
// whose run it is freed): later than it could be, so that a page_out runs beside compute.
struct Answer {
    double cost = -1;
    Ints runs;
    std::vector<std::tuple<int, int, int>> paged, late;
    Ints start_ram;
};

class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL + 0x1234567) {}
    std::uint64_t next() {  // splitmix64
        std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
        return z ^ (z >> 31);
    }
    int below(int n) { return static_cast<int>((next() >> 32) * static_cast<std::uint64_t>(n) >> 32); }
    double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
    bool chance(double p) { return unit() < p; }

  private:
    std::uint64_t state_;
};

}  // namespace poet
