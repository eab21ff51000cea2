// A sequence of runs with its memory, excess and amounts: what is asked of it, and its small parts.
//
// What poet_solvers/occurrences.py calls a Sequence: runs between START and END, for each use whether
// it is held since the latest event of its value or paged in, and which persistent storages begin in
// RAM. Memory at a place is what its run touches, its workspace, and every held gap across it.
//
// Invariant (`audit`): `memory_[place]` is the memory there less the budget, `own_[node]` the part of it
// that is not held across the boundary before the node, `excess_` the sum of what is above 0; events of
// a value stand in the order of their places.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "steps.hpp"

namespace poet {

enum class Kind : std::uint8_t { use, write, mutate };

struct Event {
    int node;
    Kind kind;
    bool paged;
    bool held_use() const { return kind == Kind::use && !paged; }
};
using Events = std::vector<Event>;

class Books {
  public:
    explicit Books(const Problem& problem) : p_(problem) {
        ops_ = static_cast<int>(p_.needed.size());
        start_node_ = ops_;
        end_node_ = ops_ + 1;
        op_of_.assign(ops_ + 2, -1);
        place_of_.assign(ops_ + 2, gone);
        own_.assign(ops_ + 2, 0.0);
        extra_index_.assign(ops_ + 2, -1);
        events_.resize(p_.size.size());
        for (Events& list : events_) list.reserve(8);
        page_count_.assign(p_.size.size(), 0);
        paged_index_.assign(p_.size.size(), -1);
        ends_of_.assign(p_.size.size(), -1);
        in_ram_.assign(p_.persistent.size(), 0);
        for (std::size_t i = 0; i < p_.persistent.size(); ++i) {
            ends_of_[p_.persistent[i].first] = ends_of_[p_.persistent[i].second] = static_cast<int>(i);
            if (copies_end(static_cast<int>(i))) add_to(amounts_, p_.out[p_.persistent[i].second]);
        }
        for (int op = 0; op < ops_; ++op) op_of_[op] = op;
    }

    // -- what others ask ----------------------------------------------------------------------
    const Problem& problem() const { return p_; }
    const Amounts& amounts() const { return amounts_; }
    double excess() const { return excess_; }
    bool broken() const { return broken_ != 0; }
    int changes() const { return static_cast<int>(extras_.size()) + pages_; }
    const Ints& extras() const { return extras_; }
    const Ints& paged_values() const { return paged_values_; }
    const Ints& order() const { return order_; }
    const Numbers& memory() const { return memory_; }
    int length() const { return static_cast<int>(order_.size()); }
    int place(int node) const { return place_of_[node]; }
    int op(int node) const { return op_of_[node]; }
    int ops() const { return ops_; }
    int end_node() const { return end_node_; }
    int start_node() const { return start_node_; }
    bool extra(int node) const { return node > end_node_; }
    bool begins_in_ram(int i) const { return in_ram_[i] != 0; }
    int pages_of(int v) const { return page_count_[v]; }
    int ends_of(int v) const { return ends_of_[v]; }
    const Events& events(int v) const { return events_[v]; }
    int place_of(const Event& event) const { return place_of_[event.node]; }
    // What is held across the boundary before a place, less the budget.
    double across(int place) const { return memory_[place] - own_[order_[place]]; }

    // The index of the first event of v at or after a place.
    int lower(int v, int place) const {
        const Events& list = events_[v];
        int low = 0, high = static_cast<int>(list.size());
        while (high - low > 8) {
            int middle = (low + high) / 2;
            if (place_of_[list[middle].node] < place) low = middle + 1; else high = middle;
        }
        while (low < high && place_of_[list[low].node] < place) ++low;
        return low;
    }
    int index_of(int v, int node) const {
        const Events& list = events_[v];
        int count = static_cast<int>(list.size());
        if (count > 16) {
            int index = lower(v, place_of_[node]);
            return index < count && list[index].node == node ? index : -1;
        }
        for (int i = 0; i < count; ++i)
            if (list[i].node == node) return i;
        return -1;
    }
    bool held(int v, int index) const {
        const Events& list = events_[v];
        return index > 0 && index < static_cast<int>(list.size()) && list[index].held_use();
    }
    bool may_run_before(int op, int place) const {
        if (!p_.may_rerun[op] || place_of_[op] >= place) return false;
        for (int later : p_.superseders[op])
            if (place_of_[later] < place) return false;
        return true;
    }
    // Whether the end of the step costs a page_out of a persistent storage, with so many more pages
    // of its first and last value.
    bool copies_end(int i, int more_first = 0, int more_last = 0) const {
        auto [first, last] = p_.persistent[i];
        if (first == last) return false;
        return !in_ram_[i] || page_count_[first] + more_first > 0 || page_count_[last] + more_last > 0;
    }

    // The places between which a run may stand, both excluded.
    std::pair<int, int> room(int node) const {
        int low = 0, high = length() - 1, op = op_of_[node];
        auto below = [&](int other) { high = std::min(high, place_of_[other]); };
        auto above = [&](int other) { low = std::max(low, place_of_[other]); };
        for (int v : p_.needed[op]) {
            const Events& list = events_[v];
            if (list[0].node != node) {
                if (list[0].kind != Kind::use || !list[index_of(v, node)].paged) above(list[0].node);
            } else if (list.size() > 1 && list[1].held_use()) {
                below(list[1].node);
            }
            if (p_.later[v] >= 0 && p_.producer[p_.later[v]] != op) below(p_.producer[p_.later[v]]);
        }
        for (const Ints* given : {&p_.written[op], &p_.mutated[op]}) {
            for (int v : *given) {
                const Events& list = events_[v];
                if (list[0].node == node && list.size() > 1) below(list[1].node);
                if (p_.later[v] >= 0) below(p_.producer[p_.later[v]]);
                if (extra(node) || p_.earlier[v] < 0) continue;
                const Events& before = events_[p_.earlier[v]];
                for (std::size_t i = before.size(); i-- > 0;)
                    if (before[i].node != node) { above(before[i].node); break; }
            }
        }
        if (extra(node)) {
            above(op);
        } else {
            if (p_.random_before[op] >= 0) above(p_.random_before[op]);
            if (p_.random_after[op] >= 0) below(p_.random_after[op]);
        }
        return {low, high};
    }

    // How far memory, what is not held across boundaries, and excess are from what the events say.
    double audit() const {
        Numbers memory(order_.size(), -p_.budget), own(own_.size(), 0.0);
        for (int node : order_)
            if (op_of_[node] >= 0) own[node] = p_.workspace[op_of_[node]];
        for (int v = 0; v < static_cast<int>(events_.size()); ++v) {
            const Events& list = events_[v];
            if (p_.is_generator(v)) {
                if (list.size() < 2) continue;
                for (int k = place_of(list.front()) + 1; k <= place_of(list.back()); ++k) memory[k] += p_.size[v];
                own[list.front().node] += p_.size[v];
                continue;
            }
            for (int i = 0; i < static_cast<int>(list.size()); ++i) {
                if (held(v, i))
                    for (int k = place_of(list[i - 1]) + 1; k <= place_of(list[i]); ++k) memory[k] += p_.size[v];
                else if (list[i].kind != Kind::mutate)
                    own[list[i].node] += p_.size[v];
            }
        }
        double off = 0, excess = 0;
        for (int place = 0; place < length(); ++place) {
            int node = order_[place];
            off += std::abs(memory_[place] - memory[place] - own[node]) + std::abs(own_[node] - own[node]);
            off += place_of_[node] != place;
            excess += over(memory_[place]);
        }
        return off + std::abs(excess - excess_);
    }
    // Amounts are sums of sums: added up afresh now and then, they carry no rounding along.
    void recount() {
        amounts_ = {};
        for (int node : order_)
            if (op_of_[node] >= 0) add_to(amounts_, p_.run[op_of_[node]]);
        for (std::size_t v = 0; v < page_count_.size(); ++v) {
            add_to(amounts_, p_.in[v], page_count_[v]);
            if (page_count_[v] > 0 && ends_of_[v] < 0) add_to(amounts_, p_.out[v]);
        }
        for (std::size_t i = 0; i < p_.persistent.size(); ++i)
            if (copies_end(static_cast<int>(i))) add_to(amounts_, p_.out[p_.persistent[i].second]);
    }
    Answer answer(double cost) const {
        Answer made;
        answer(cost, made);
        return made;
    }
    void answer(double cost, Answer& made) const {  // into buffers that have grown
        made.cost = cost;
        made.runs.clear();
        made.paged.clear();
        made.late.clear();
        for (int node : order_)
            if (op_of_[node] >= 0) made.runs.push_back(op_of_[node]);
        for (int v : paged_values_)
            for (const Event& event : events_[v])
                if (event.paged) {
                    int place = place_of_[event.node] - 1;
                    made.paged.emplace_back(v, place, place);
                }
        made.start_ram = in_ram_;
    }

  protected:
    static constexpr int gone = -1, recycled = -2;

    const Problem& p_;
    int ops_ = 0, start_node_ = 0, end_node_ = 0;
    int broken_ = 0, pages_ = 0;
    double excess_ = 0;
    Amounts amounts_{};
    Ints op_of_, place_of_, order_, extras_, extra_index_, free_, page_count_, ends_of_, in_ram_;
    Ints paged_values_, paged_index_;  // values with a use that pages in, and where they are there
    Numbers memory_, own_;
    std::vector<Events> events_;

    void add(int from, int until, double size) {
        if (from >= until) return;
        excess_ += change_of(memory_.data() + from, until - from, size);
        add_size(memory_.data() + from, until - from, size);
    }
    void note_extra(int node) {
        extra_index_[node] = static_cast<int>(extras_.size());
        extras_.push_back(node);
    }
    void forget_extra(int node) {
        int index = extra_index_[node], last = extras_.back();
        extras_[index] = last;
        extra_index_[last] = index;
        extras_.pop_back();
    }
    void put_event(int v, Event event) {
        Events& list = events_[v];
        list.insert(list.begin() + lower(v, place_of_[event.node]), event);
    }
    // A run and its events to another place.
    void shift(int node, int to, double memory) {
        int from = place_of_[node], op = op_of_[node], step = to > from ? 1 : -1;
        for (int k = from; k != to; k += step) {
            order_[k] = order_[k + step];
            memory_[k] = memory_[k + step];
            place_of_[order_[k]] = k;
        }
        order_[to] = node;
        memory_[to] = memory;
        place_of_[node] = to;
        for (int v : p_.needed[op]) sort_in(v, node);
        for (int v : p_.written[op]) sort_in(v, node);
        for (int v : p_.mutated[op]) sort_in(v, node);
        if (p_.generator[op] >= 0) sort_in(p_.generator[op], node);
    }
    void sort_in(int v, int node) {
        Events& list = events_[v];
        int i = 0, count = static_cast<int>(list.size()), place = place_of_[node];
        while (list[i].node != node) ++i;
        for (; i > 0 && place_of_[list[i - 1].node] > place; --i) std::swap(list[i], list[i - 1]);
        for (; i + 1 < count && place_of_[list[i + 1].node] < place; ++i) std::swap(list[i], list[i + 1]);
    }
    void renumber(int from) {
        for (int i = from, count = length(); i < count; ++i) place_of_[order_[i]] = i;
    }
    int is_broken(int v) const {
        const Events& list = events_[v];
        if (list.empty() || list[0].kind != Kind::use) return 0;
        int i = ends_of_[v];
        return !(list[0].paged && i >= 0 && p_.persistent[i].first == v);
    }
    void note_page(int v, int change) {
        if (page_count_[v] == 0) {
            paged_index_[v] = static_cast<int>(paged_values_.size());
            paged_values_.push_back(v);
        }
        page_count_[v] += change;
        pages_ += change;
        if (page_count_[v] == 0) {
            int last = paged_values_.back();
            paged_values_[paged_index_[v]] = last;
            paged_index_[last] = paged_index_[v];
            paged_values_.pop_back();
        }
    }
    void count_page(int v, int change) {
        int i = ends_of_[v];
        if (i >= 0) {
            int last = p_.persistent[i].second;
            if (copies_end(i)) add_to(amounts_, p_.out[last], -1);
            note_page(v, change);
            if (copies_end(i)) add_to(amounts_, p_.out[last]);
        } else {
            if (page_count_[v] == (change > 0 ? 0 : 1)) add_to(amounts_, p_.out[v], change);
            note_page(v, change);
        }
        add_to(amounts_, p_.in[v], change);
    }
    int new_node(int op) {
        int node;
        if (free_.empty()) {
            node = static_cast<int>(op_of_.size());
            op_of_.push_back(op);
            place_of_.push_back(gone);
            own_.push_back(0.0);
            extra_index_.push_back(-1);
        } else {
            node = free_.back();
            free_.pop_back();
            op_of_[node] = op;
        }
        return node;
    }
};

}  // namespace poet
