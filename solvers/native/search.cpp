// Local search over sequences of runs: the hot loop behind poet_solvers/search.py.
//
// A state is what poet_solvers/occurrences.py calls a Sequence: runs between START and END, for each
// use whether it is held since the latest event of its value or paged in, and which persistent
// storages begin in RAM. Memory at a position is what its run touches, its workspace, and every held
// gap that lies across it. Five primitives (run in, run out, event in, event out, flag) keep memory,
// excess and cost up to date and are undone in reverse; a move is a few of them, then accepted or not.
//
// Invariant: accepted states have every use after an event that gives its value (broken == 0), runs
// that touch a storage that one of them gives never change places, and ops that may not run again
// run once. Nothing here is believed: Python decodes, the judge decides. Deterministic for a seed and
// a number of moves as long as no time limit is given.

#include <nanobind/nanobind.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

namespace nb = nanobind;

namespace {

using Ints = std::vector<int>;
using Table = std::vector<Ints>;
using Numbers = std::vector<double>;

struct Problem {
    Table needed, written, mutated;      // values by op
    Numbers workspace, op_cost;          // by op
    Ints may_rerun;                      // by op, 0 or 1
    Table superseders;                   // ops by op
    Table touched, given;                // storages by op, zero-byte ones too
    Ints random;                         // by op, 0 or 1
    Numbers size, page_in, page_out;     // by value; page_in and page_out are costs
    Ints producer, storage;              // by value; producer -1: before the step
    Ints begins;                         // values that begin in RAM and are not persistent
    std::vector<std::pair<int, int>> persistent;  // first and last value of each persistent storage
    Ints results;                        // values wanted in RAM at the end
    double budget = 0;
    bool page = true, rematerialize = true, reorder = false;
};

struct Start {
    Ints runs;                                // ops in order, first runs and others
    std::vector<std::pair<int, int>> paged;   // (value, place in runs; runs.size() is END)
    Ints start_ram;                           // 0 or 1 by persistent storage
};

using Answer = std::tuple<double, Ints, std::vector<std::pair<int, int>>, Ints>;

enum class Kind : std::uint8_t { use, write, mutate };

struct Event {
    int node;
    Kind kind;
    bool paged;
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

class State {
  public:
    State(const Problem& problem, const Start& start) : p_(problem) {
        ops_ = static_cast<int>(p_.needed.size());
        start_node_ = ops_;
        end_node_ = ops_ + 1;
        op_of_.assign(ops_ + 2, -1);
        place_of_.assign(ops_ + 2, -1);
        events_.resize(p_.size.size());
        page_count_.assign(p_.size.size(), 0);
        persistent_of_.assign(p_.size.size(), -1);
        in_ram_.assign(p_.persistent.size(), 0);
        for (std::size_t i = 0; i < p_.persistent.size(); ++i) {
            for (std::size_t v = 0; v < p_.size.size(); ++v)
                if (p_.storage[v] == p_.storage[p_.persistent[i].first]) persistent_of_[v] = static_cast<int>(i);
            cost_ += out_cost(static_cast<int>(i));
        }
        for (int op = 0; op < ops_; ++op) op_of_[op] = op;
        run_in(start_node_, 0);
        for (int v : p_.begins) event_in(v, {start_node_, Kind::write, false});
        std::vector<int> nodes;
        std::vector<char> seen(ops_, 0);
        for (int op : start.runs) {
            int node = seen[op] ? new_node(op) : op;
            seen[op] = 1;
            nodes.push_back(node);
            run_in(node, static_cast<int>(order_.size()));
        }
        nodes.push_back(end_node_);
        run_in(end_node_, static_cast<int>(order_.size()));
        for (std::size_t i = 0; i < p_.persistent.size(); ++i)
            if (start.start_ram[i]) begin_in_ram(static_cast<int>(i));
        for (int v : p_.results)
            if (!has_event(v, end_node_)) event_in(v, {end_node_, Kind::use, false});
        for (int node : nodes)
            if (node != end_node_) touch_all(node, {});
        for (auto [v, place] : start.paged) flag(v, nodes[place], true);
        for (auto [first, last] : p_.persistent) {
            auto& list = events_[first];
            if (!list.empty() && list[0].kind == Kind::use) flag(first, list[0].node, true);
        }
        journal_.clear();
    }

    double cost() const { return cost_; }
    double excess() const { return excess_; }
    bool broken() const { return broken_ != 0; }
    int changes() const { return static_cast<int>(extras_.size()) + pages_; }
    const Ints& extras() const { return extras_; }
    const Ints& order() const { return order_; }
    std::size_t length() const { return order_.size(); }
    int place(int node) const { return place_of_[node]; }
    int op(int node) const { return op_of_[node]; }
    bool is_end(int node) const { return node == end_node_; }
    int end_node() const { return end_node_; }
    const Problem& problem() const { return p_; }
    bool begins_in_ram(int i) const { return in_ram_[i] != 0; }
    std::vector<Event>& events(int v) { return events_[v]; }

    // The index of the first event of v at or after a place.
    int lower(int v, int place) const {
        const auto& list = events_[v];
        int low = 0, high = static_cast<int>(list.size());
        while (low < high) {
            int middle = (low + high) / 2;
            if (place_of_[list[middle].node] < place) low = middle + 1; else high = middle;
        }
        return low;
    }
    bool held(int v, int index) const {
        const auto& list = events_[v];
        return index > 0 && index < static_cast<int>(list.size()) && list[index].kind == Kind::use && !list[index].paged;
    }
    bool live_before(int v, int place) const { return held(v, lower(v, place)); }
    int index_of(int v, int node) const {
        int index = lower(v, place_of_[node]);
        return index < static_cast<int>(events_[v].size()) && events_[v][index].node == node ? index : -1;
    }
    bool has_event(int v, int node) const { return index_of(v, node) >= 0; }

    bool may_run_before(int op, int place) const {
        if (!p_.may_rerun[op] || place_of_[op] >= place) return false;
        for (int later : p_.superseders[op])
            if (place_of_[later] < place) return false;
        return true;
    }

    // -- primitives ---------------------------------------------------------------------------
    void run_in(int node, int place) {
        double memory = place < static_cast<int>(order_.size()) && place > 0 ? across(place) : 0.0;
        if (op_of_[node] >= 0) {
            memory += p_.workspace[op_of_[node]];
            cost_ += p_.op_cost[op_of_[node]];
        }
        order_.insert(order_.begin() + place, node);
        memory_.insert(memory_.begin() + place, memory);
        renumber(place);
        excess_ += over(memory);
        if (node > end_node_) {
            extra_index_[node] = static_cast<int>(extras_.size());
            extras_.push_back(node);
        }
        journal_.push_back({What::run_in, node, place, {}, false});
    }
    void run_out(int node) {
        int place = place_of_[node];
        excess_ -= over(memory_[place]);
        if (op_of_[node] >= 0) cost_ -= p_.op_cost[op_of_[node]];
        order_.erase(order_.begin() + place);
        memory_.erase(memory_.begin() + place);
        renumber(place);
        place_of_[node] = gone;
        if (node > end_node_) {
            int index = extra_index_[node], last = extras_.back();
            extras_[index] = last;
            extra_index_[last] = index;
            extras_.pop_back();
        }
        journal_.push_back({What::run_out, node, place, {}, false});
    }
    void event_in(int v, Event event) {
        auto& list = events_[v];
        broken_ -= is_broken(v);
        int place = place_of_[event.node], index = lower(v, place);
        int before = index > 0 ? place_of_[list[index - 1].node] : -1;
        bool was_held = held(v, index);
        bool stays = event.kind == Kind::use && !event.paged;
        double size = p_.size[v];
        if (was_held) {
            if (!stays) add(before + 1, event.kind == Kind::mutate ? place + 1 : place, -size);
        } else {
            if (event.kind != Kind::mutate) add(place, place + 1, size);
            if (stays && before >= 0) add(before + 1, place, size);
            if (index == 0 && !list.empty() && list[0].kind == Kind::use && !list[0].paged)
                add(place + 1, place_of_[list[0].node], size);
        }
        list.insert(list.begin() + index, event);
        if (event.paged) count_page(v, +1);
        broken_ += is_broken(v);
        journal_.push_back({What::event_in, v, 0, event, false});
    }
    void event_out(int v, int node) {
        auto& list = events_[v];
        broken_ -= is_broken(v);
        int index = index_of(v, node), place = place_of_[node];
        Event event = list[index];
        int before = index > 0 ? place_of_[list[index - 1].node] : -1;
        bool stays = event.kind == Kind::use && !event.paged;
        double size = p_.size[v];
        bool next_held = held(v, index + 1);
        list.erase(list.begin() + index);
        if (next_held && before >= 0) {  // the gap closes over the place
            if (!stays) add(before + 1, event.kind == Kind::mutate ? place + 1 : place, size);
        } else {
            if (event.kind != Kind::mutate) add(place, place + 1, -size);
            if (stays && before >= 0) add(before + 1, place, -size);
            if (next_held) add(place + 1, place_of_[list[0].node], -size);
        }
        if (event.paged) count_page(v, -1);
        broken_ += is_broken(v);
        journal_.push_back({What::event_out, v, 0, event, false});
    }
    void flag(int v, int node, bool paged) {
        int index = index_of(v, node);
        auto& list = events_[v];
        if (list[index].paged == paged) return;
        broken_ -= is_broken(v);
        list[index].paged = paged;
        if (index > 0)
            add(place_of_[list[index - 1].node] + 1, place_of_[node], paged ? -p_.size[v] : p_.size[v]);
        count_page(v, paged ? +1 : -1);
        broken_ += is_broken(v);
        journal_.push_back({What::flag, v, node, {}, !paged});
    }

    // -- compounds ----------------------------------------------------------------------------
    void begin_in_ram(int i) { set_ram(i, true); }
    void set_ram(int i, bool in_ram) {  // the caller flags the first use
        auto [first, last] = p_.persistent[i];
        ram_flag(i, in_ram);
        bool is_result = std::find(p_.results.begin(), p_.results.end(), last) != p_.results.end();
        if (in_ram) {
            event_in(first, {start_node_, Kind::write, false});
            if (!has_event(last, end_node_)) event_in(last, {end_node_, Kind::use, false});
        } else {
            if (!is_result) event_out(last, end_node_);
            event_out(first, start_node_);
        }
    }
    void ram_flag(int i, bool in_ram) {
        cost_ -= out_cost(i);
        in_ram_[i] = in_ram;
        cost_ += out_cost(i);
        journal_.push_back({What::ram, i, 0, {}, !in_ram});
    }
    // The events of a run that stands in the order; `paged` are its uses that page in.
    void touch_all(int node, const Ints& paged) {
        int op = op_of_[node];
        for (int v : p_.needed[op])
            event_in(v, {node, Kind::use, std::find(paged.begin(), paged.end(), v) != paged.end()});
        for (int v : p_.written[op]) event_in(v, {node, Kind::write, false});
        for (int v : p_.mutated[op]) event_in(v, {node, Kind::mutate, false});
    }
    void untouch_all(int node, Ints* paged) {
        int op = op_of_[node];
        for (int v : p_.needed[op]) {
            if (paged != nullptr && events_[v][index_of(v, node)].paged) paged->push_back(v);
            event_out(v, node);
        }
        for (int v : p_.written[op]) event_out(v, node);
        for (int v : p_.mutated[op]) event_out(v, node);
    }
    int insert(int op, int before_node, const Ints& paged) {
        int node = new_node(op);
        run_in(node, place_of_[before_node]);
        touch_all(node, paged);
        return node;
    }
    void remove(int node) {
        untouch_all(node, nullptr);
        run_out(node);
    }

    void commit() {
        recycle(journal_);
        journal_.clear();
    }
    void undo() {
        auto steps = std::move(journal_);
        journal_.clear();
        for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
            switch (step->what) {
                case What::run_in: run_out(step->a); break;
                case What::run_out: run_in(step->a, step->b); break;
                case What::event_in: event_out(step->a, step->event.node); break;
                case What::event_out: event_in(step->a, step->event); break;
                case What::flag: flag(step->a, step->b, step->on); break;
                case What::ram: ram_flag(step->a, step->on); break;
            }
        }
        recycle(steps);
        steps.clear();
        journal_ = std::move(steps);
    }

    Answer answer() const {
        Ints runs;
        std::vector<std::pair<int, int>> paged;
        for (int node : order_)
            if (op_of_[node] >= 0) runs.push_back(op_of_[node]);
        for (std::size_t v = 0; v < events_.size(); ++v)
            for (const Event& event : events_[v])
                if (event.paged) paged.emplace_back(static_cast<int>(v), place_of_[event.node] - 1);
        return {cost_, runs, paged, in_ram_};
    }

  private:
    enum class What : std::uint8_t { run_in, run_out, event_in, event_out, flag, ram };
    struct Step {
        What what;
        int a, b;
        Event event;
        bool on;
    };

    static constexpr int gone = -1, recycled = -2;

    const Problem& p_;
    int ops_ = 0, start_node_ = 0, end_node_ = 0;
    int broken_ = 0, pages_ = 0;
    double cost_ = 0, excess_ = 0;
    Ints op_of_, place_of_, order_, extras_, extra_index_, free_, page_count_, persistent_of_, in_ram_;
    Numbers memory_;
    std::vector<std::vector<Event>> events_;
    std::vector<Step> journal_;

    void recycle(const std::vector<Step>& steps) {
        for (const Step& step : steps) {
            bool run = step.what == What::run_in || step.what == What::run_out;
            if (run && step.a > end_node_ && place_of_[step.a] == gone) {
                place_of_[step.a] = recycled;
                free_.push_back(step.a);
            }
        }
    }
    double over(double memory) const { return memory > p_.budget ? memory - p_.budget : 0.0; }

    void add(int from, int until, double size) {
        double before = 0, after = 0;
        for (int i = from; i < until; ++i) {
            before += std::max(0.0, memory_[i] - p_.budget);
            memory_[i] += size;
            after += std::max(0.0, memory_[i] - p_.budget);
        }
        excess_ += after - before;
    }
    void renumber(int from) {
        for (std::size_t i = from; i < order_.size(); ++i) place_of_[order_[i]] = static_cast<int>(i);
    }
    // What is held across the boundary before a place.
    double across(int place) const {
        int node = order_[place], op = op_of_[node];
        double memory = memory_[place];
        auto ends_here = [&](int v) {
            int index = index_of(v, node);
            if (index >= 0 && !held(v, index)) memory -= p_.size[v];
        };
        if (op >= 0) {
            memory -= p_.workspace[op];
            for (int v : p_.needed[op]) ends_here(v);
            for (int v : p_.written[op])
                if (has_event(v, node)) memory -= p_.size[v];
        } else if (node == end_node_) {
            for (int v : p_.results) ends_here(v);
            for (std::size_t i = 0; i < p_.persistent.size(); ++i) {
                int last = p_.persistent[i].second;
                bool result = std::find(p_.results.begin(), p_.results.end(), last) != p_.results.end();
                if (in_ram_[i] && !result) ends_here(last);
            }
        }
        return memory;
    }
    int is_broken(int v) const {
        const auto& list = events_[v];
        if (list.empty() || list[0].kind != Kind::use) return 0;
        int i = persistent_of_[v];
        return !(list[0].paged && i >= 0 && p_.persistent[i].first == v);
    }
    double out_cost(int i) const {
        auto [first, last] = p_.persistent[i];
        bool in_flash = !in_ram_[i] || page_count_[first] > 0;
        return first != last && (in_flash || page_count_[last] > 0) ? p_.page_out[last] : 0.0;
    }
    void count_page(int v, int change) {
        int i = persistent_of_[v];
        bool ends = i >= 0 && (p_.persistent[i].first == v || p_.persistent[i].second == v);
        if (ends) cost_ -= out_cost(i);
        if (!ends && page_count_[v] == (change > 0 ? 0 : 1)) cost_ += change * p_.page_out[v];
        page_count_[v] += change;
        pages_ += change;
        cost_ += change * p_.page_in[v];
        if (ends) cost_ += out_cost(i);
    }
    int new_node(int op) {
        int node;
        if (free_.empty()) {
            node = static_cast<int>(op_of_.size());
            op_of_.push_back(op);
            place_of_.push_back(-1);
        } else {
            node = free_.back();
            free_.pop_back();
            op_of_[node] = op;
        }
        if (static_cast<int>(extra_index_.size()) <= node) extra_index_.resize(node + 1, -1);
        return node;
    }
};

// Which ops may never change places: they share a storage that one of them gives, or both draw.
class Order {
  public:
    explicit Order(const Problem& p) : ops_(p.needed.size()), apart_(ops_ * ops_, 0) {
        std::vector<Ints> users;
        std::vector<Ints> givers;
        auto note = [](std::vector<Ints>& lists, int storage, int op) {
            if (static_cast<int>(lists.size()) <= storage) lists.resize(storage + 1);
            lists[storage].push_back(op);
        };
        Ints draws;
        for (std::size_t op = 0; op < ops_; ++op) {
            for (int s : p.touched[op]) note(users, s, static_cast<int>(op));
            for (int s : p.given[op]) note(givers, s, static_cast<int>(op));
            if (p.random[op]) draws.push_back(static_cast<int>(op));
        }
        for (std::size_t s = 0; s < std::min(users.size(), givers.size()); ++s)
            for (int giver : givers[s])
                for (int user : users[s]) keep(giver, user);
        for (int one : draws)
            for (int other : draws) keep(one, other);
    }
    bool fixed(int one, int other) const { return apart_[one * ops_ + other] != 0; }

  private:
    std::size_t ops_;
    std::vector<std::uint8_t> apart_;
    void keep(int one, int other) { apart_[one * ops_ + other] = apart_[other * ops_ + one] = 1; }
};

class Search {
  public:
    Search(const Problem& problem, const Start& start, std::uint64_t seed, double price)
        : p_(problem), order_(problem), random_(seed), first_(start), price_(price) {}

    using Poll = std::function<bool(const Answer*, std::int64_t)>;  // the best, where it is news

    // Diverse short starts, then the rest of the moves on the best of them. Heats (of the overhead of
    // one change) were chosen on ResNet-18, VGG-16 and BERT: hotter costs large graphs their time, colder
    // leaves ResNet-18 in a local optimum.
    Answer run(std::int64_t moves, double seconds, const Poll& poll) {
        begun_ = Clock::now();
        limit_ = seconds;
        poll_ = &poll;
        base_ = 0;
        for (double cost : p_.op_cost) base_ += cost;
        anneal(first_, moves / 2, 0.0, 0.4, 0.1);
        anneal(first_, moves / 10, 0.4, 0.5, 0.4);
        anneal(first_, moves / 10, 0.5, 0.6, 0.02);
        const Start best = found_ ? as_start(best_) : first_;
        anneal(best, moves - moves / 2 - 2 * (moves / 10), 0.6, 1.0, 0.03);
        if (!found_) return {-1.0, {}, {}, {}};
        return best_;
    }
    std::int64_t moves() const { return done_; }

  private:
    using Clock = std::chrono::steady_clock;
    static constexpr int chain_cap = 16, poll_every = 512;

    const Problem& p_;
    Order order_;
    Random random_;
    Start first_;
    double price_, base_ = 0, limit_ = 0;
    Answer best_;
    bool found_ = false, stopped_ = false;
    std::int64_t done_ = 0;
    Clock::time_point begun_;
    const Poll* poll_ = nullptr;
    int chain_ = 0;

    static Start as_start(const Answer& answer) {
        return {std::get<1>(answer), std::get<2>(answer), std::get<3>(answer)};
    }

    double elapsed() const { return std::chrono::duration<double>(Clock::now() - begun_).count(); }

    void anneal(const Start& start, std::int64_t moves, double from, double until, double heat) {
        State state(p_, start);
        double price = price_, share = 0;
        keep(state);
        for (std::int64_t i = 0; i < moves && !stopped_; ++i, ++done_) {
            if (i % poll_every == 0) {
                share = static_cast<double>(i) / static_cast<double>(moves);
                if (limit_ > 0) {
                    double now = elapsed() / limit_;
                    if (now >= until) return;
                    share = std::max(share, (now - from) / (until - from));
                }
                if (!(*poll_)(found_ ? &best_ : nullptr, done_)) { stopped_ = true; return; }
                // Too long over the budget: excess gets dearer, else slowly cheaper, within limits.
                price *= state.excess() > 0 ? 1.1 : 0.95;
                price = std::min(std::max(price, price_ * 0.05), price_ * 1e6);
            }
            double overhead = found_ ? std::get<0>(best_) - base_ : state.cost() - base_;
            double each = std::max(overhead, 1e-7 * base_) / std::max(1, state.changes());
            double temperature = heat * each * std::pow(0.005, share);
            double before = state.cost() + price * state.excess();
            bool moved = move(state);
            double after = state.cost() + price * state.excess();
            if (moved && !state.broken() && accept(after - before, temperature)) {
                state.commit();
                keep(state);
            } else {
                state.undo();
            }
        }
    }
    bool accept(double worse, double temperature) {
        return worse <= 0 || random_.unit() < std::exp(-worse / temperature);
    }
    void keep(const State& state) {
        if (state.excess() > 0 || state.broken()) return;
        if (found_ && state.cost() >= std::get<0>(best_) * (1 - 1e-12)) return;
        best_ = state.answer();
        found_ = true;
    }

    // -- moves --------------------------------------------------------------------------------
    bool move(State& state) {
        if (random_.chance(0.3)) {  // hold one value instead of another
            bool held = hold(state);
            return bring_back(state) || held;
        }
        bool done = single(state);
        if (random_.chance(0.15)) done = single(state) || done;
        return done;
    }
    bool single(State& state) {
        double pick = random_.unit();
        if (pick < 0.40) return bring_back(state);
        if (pick < 0.55) return hold(state);
        if (pick < 0.78) return drop_run(state);
        if (pick < 0.96) return relocate(state);
        return start_side(state);
    }
    // A random use: (value, node), or value -1.
    std::pair<int, int> random_use(State& state) {
        int place = 1 + random_.below(static_cast<int>(state.length()) - 1);
        int node = state.order()[place];
        if (state.is_end(node)) {
            if (p_.results.empty()) return {-1, node};
            int v = p_.results[random_.below(static_cast<int>(p_.results.size()))];
            return {v, node};
        }
        const Ints& needed = p_.needed[state.op(node)];
        if (needed.empty()) return {-1, node};
        return {needed[random_.below(static_cast<int>(needed.size()))], node};
    }
    // Page a held value in before its use, or run its op again; a paged one: run its op instead.
    bool bring_back(State& state) {
        auto [v, node] = random_use(state);
        if (v < 0) return false;
        int index = state.index_of(v, node);
        if (index <= 0) return run_for(state, v, node);
        const auto& list = state.events(v);
        bool paged = list[index].paged;
        if (!paged && state.place(node) - state.place(list[index - 1].node) < 2) return false;
        if (!paged && p_.page && random_.chance(p_.rematerialize ? 0.5 : 1.0)) {
            state.flag(v, node, true);
            return true;
        }
        return run_for(state, v, node);
    }
    bool run_for(State& state, int v, int node) {
        chain_ = 0;
        double deep = random_.unit();
        return run_before(state, v, node, deep) && hold_use(state, v, node);
    }
    bool hold_use(State& state, int v, int node) {
        state.flag(v, node, false);
        return true;
    }
    // The op that gives v once more right before a node, with what it misses.
    bool run_before(State& state, int v, int node, double deep) {
        int op = p_.producer[v];
        if (op < 0 || ++chain_ > chain_cap || !state.may_run_before(op, state.place(node))) return false;
        if (state.length() > 8 * p_.needed.size() + 64) return false;
        Ints paged;
        for (int w : p_.needed[op]) {
            int place = state.place(node), index = state.lower(w, place);
            if (state.held(w, index)) continue;
            if (index == 0) {
                if (p_.producer[w] >= 0 || !p_.page) return false;
                paged.push_back(w);
                continue;
            }
            int last = state.events(w)[index - 1].node;
            bool near = place - state.place(last) < 2;
            if (near) continue;
            double pick = random_.unit();
            bool can_run = p_.producer[w] >= 0 && state.may_run_before(p_.producer[w], place);
            if (can_run && pick < deep) {
                if (!run_before(state, w, node, deep)) return false;
            } else if (p_.page && random_.chance(0.5)) {
                paged.push_back(w);
            }
        }
        state.insert(op, node, paged);
        return true;
    }
    bool hold(State& state) {
        for (int tries = 0; tries < 8; ++tries) {
            auto [v, node] = random_use(state);
            if (v < 0) continue;
            int index = state.index_of(v, node);
            if (index <= 0 || !state.events(v)[index].paged) continue;
            state.flag(v, node, false);
            return true;
        }
        return false;
    }
    bool drop_run(State& state) {
        if (state.extras().empty()) return false;
        int node = state.extras()[random_.below(static_cast<int>(state.extras().size()))];
        chain_ = 0;
        return drop(state, node, random_.chance(0.7), p_.page && random_.chance(0.3));
    }
    // Take a run out; with its parents that nobody needs then; what it gave paged in where wanted.
    bool drop(State& state, int node, bool parents, bool page) {
        int op = state.op(node);
        Ints makers;
        for (int v : p_.needed[op]) {
            int index = state.index_of(v, node);
            const auto& list = state.events(v);
            if (list[index].paged && state.held(v, index + 1)) {
                if (random_.chance(0.7)) state.flag(v, list[index + 1].node, true);
            } else if (!list[index].paged && index > 0 && list[index - 1].kind == Kind::write) {
                makers.push_back(list[index - 1].node);
            }
        }
        for (int v : p_.written[op]) {
            int index = state.index_of(v, node);
            if (state.held(v, index + 1) && page) state.flag(v, state.events(v)[index + 1].node, true);
        }
        state.remove(node);
        if (!parents) return true;
        for (int maker : makers) {
            if (maker <= state.end_node() || state.place(maker) < 0 || ++chain_ > chain_cap) continue;
            bool wanted = false;
            for (int v : p_.written[state.op(maker)])
                wanted = wanted || state.held(v, state.index_of(v, maker) + 1);
            if (!wanted) drop(state, maker, true, page);
        }
        return true;
    }
    // Put a run elsewhere without passing one that it may not change places with.
    bool relocate(State& state) {
        int node;
        if (p_.reorder && random_.chance(state.extras().empty() ? 1.0 : 0.5)) {
            node = state.order()[1 + random_.below(static_cast<int>(state.length()) - 2)];
        } else {
            if (state.extras().empty()) return false;
            node = state.extras()[random_.below(static_cast<int>(state.extras().size()))];
        }
        int op = state.op(node), place = state.place(node), step = random_.chance(0.5) ? 1 : -1;
        int most = 1 + static_cast<int>(std::pow(static_cast<double>(state.length()), random_.unit()));
        int target = place;
        for (int i = 0; i < most; ++i) {
            int other = state.order()[target + step];
            if (state.op(other) < 0 || order_.fixed(op, state.op(other))) break;
            target += step;
        }
        if (target == place) return false;
        Ints paged;
        state.untouch_all(node, &paged);
        state.run_out(node);
        state.run_in(node, target);
        for (int v : p_.needed[op]) {
            int index = state.lower(v, target);
            // Before the first use of what begins in flash: this one pages it in, that one holds it.
            if (index == 0 && std::find(paged.begin(), paged.end(), v) == paged.end()) paged.push_back(v);
        }
        state.touch_all(node, paged);
        for (int v : p_.needed[op]) page_first(state, v);
        return true;
    }
    void page_first(State& state, int v) {
        const auto& list = state.events(v);
        if (!list.empty() && list[0].kind == Kind::use && !list[0].paged && p_.page && p_.producer[v] < 0)
            state.flag(v, list[0].node, true);
    }
    // A persistent storage begins in RAM instead of flash, or the other way round.
    bool start_side(State& state) {
        if (p_.persistent.empty() || !p_.page) return false;
        int i = random_.below(static_cast<int>(p_.persistent.size()));
        auto [first, last] = p_.persistent[i];
        bool in_ram = state.begins_in_ram(i);
        state.set_ram(i, !in_ram);
        if (in_ram) {
            page_first(state, first);
        } else if (state.events(first).size() > 1 && state.events(first)[1].paged) {
            state.flag(first, state.events(first)[1].node, false);
        }
        return true;
    }
};

}  // namespace

NB_MODULE(_search, module) {
    nb::class_<Problem>(module, "Problem")
        .def(nb::init<>())
        .def_rw("needed", &Problem::needed)
        .def_rw("written", &Problem::written)
        .def_rw("mutated", &Problem::mutated)
        .def_rw("workspace", &Problem::workspace)
        .def_rw("op_cost", &Problem::op_cost)
        .def_rw("may_rerun", &Problem::may_rerun)
        .def_rw("superseders", &Problem::superseders)
        .def_rw("touched", &Problem::touched)
        .def_rw("given", &Problem::given)
        .def_rw("random", &Problem::random)
        .def_rw("size", &Problem::size)
        .def_rw("page_in", &Problem::page_in)
        .def_rw("page_out", &Problem::page_out)
        .def_rw("producer", &Problem::producer)
        .def_rw("storage", &Problem::storage)
        .def_rw("begins", &Problem::begins)
        .def_rw("persistent", &Problem::persistent)
        .def_rw("results", &Problem::results)
        .def_rw("budget", &Problem::budget)
        .def_rw("page", &Problem::page)
        .def_rw("rematerialize", &Problem::rematerialize)
        .def_rw("reorder", &Problem::reorder);
    module.def(
        "search",
        [](const Problem& problem, const Ints& runs, const std::vector<std::pair<int, int>>& paged,
           const Ints& start_ram, std::uint64_t seed, std::int64_t moves, double seconds, double price,
           const std::function<bool(nb::object, std::int64_t)>& poll) {
            using Clock = std::chrono::steady_clock;
            nb::gil_scoped_release released;
            Search search(problem, Start{runs, paged, start_ram}, seed, price);
            auto asked = Clock::now() - std::chrono::seconds(1);
            auto told = asked;
            double told_cost = -1;
            // Asked about 20 times a second, told of a better answer 10 times a second at most.
            auto often = [&](const Answer* best, std::int64_t done) {
                auto now = Clock::now();
                if (now - asked < std::chrono::milliseconds(50)) return true;
                asked = now;
                bool news = best != nullptr && std::get<0>(*best) != told_cost &&
                            now - told >= std::chrono::milliseconds(95);
                nb::gil_scoped_acquire held;
                if (!news) return poll(nb::none(), done);
                told = now;
                told_cost = std::get<0>(*best);
                return poll(nb::cast(*best), done);
            };
            Answer answer = search.run(moves, seconds, often);
            return std::make_pair(answer, search.moves());
        },
        nb::arg("problem"), nb::arg("runs"), nb::arg("paged"), nb::arg("start_ram"), nb::arg("seed"),
        nb::arg("moves"), nb::arg("seconds"), nb::arg("price"), nb::arg("poll"));
}
