// What a change would do to memory and amounts, found without making it.
//
// A change is one of: a use held instead of paged in or the other way round, a block of runs put in
// before a run, some runs taken out, one run moved. Each gap between two events that comes or goes is a
// range of places where memory steps up or down; sorted, they are summed over the flat memory array.
// Invariant: for a change that is possible, `Effect` is what `make` then does to the State (tests check
// every one); nothing is allocated once the buffers have grown.

#pragma once

#include "state.hpp"

namespace poet {

struct Flag {
    int value, node;
    bool paged;
};
struct Run {
    int op, first_paged, paged;  // its paged uses are `Change::paged[first_paged ..]`, so many
};
enum class What : std::uint8_t { flags, block, removal, move };

struct Change {
    What what = What::flags;
    std::vector<Flag> flags;  // made first; in a block: the uses that it brings values for
    std::vector<Run> runs;    // block, in order
    Ints paged;
    Ints nodes;               // removal
    int node = -1;            // block: before it; move: this one
    int target = -1;          // move: to the boundary before the run at this place

    void clear(What as) {
        what = as;
        flags.clear();
        runs.clear();
        paged.clear();
        nodes.clear();
    }
};

struct Effect {
    bool possible = false;
    Amounts amounts{};
    double excess = 0;
};

// Journalled: for a part of a move that may be undone.
inline void make(State& state, const Change& change) {
    if (change.what != What::block)
        for (const Flag& flag : change.flags) state.flag(flag.value, flag.node, flag.paged);
    for (const Run& run : change.runs)
        state.insert(run.op, change.node, change.paged.data() + run.first_paged, run.paged);
    if (change.what == What::block)
        for (const Flag& flag : change.flags) state.flag(flag.value, flag.node, flag.paged);
    if (change.what == What::removal)
        for (int node : change.nodes) state.remove(node);
}

class Trial {
  public:
    explicit Trial(const Problem& p) : p_(p), more_pages_(p.size.size(), 0), slot_(p.size.size(), -1) {}

    // Where the cost alone comes to more than `most_cost`, memory is not looked at: not possible.
    const Effect& effect(const State& state, const Change& change, double most_cost) {
        most_cost_ = most_cost;
        effect_ = Effect{};
        effect_.possible = true;
        ++count_;
        steps_.clear();
        switch (change.what) {
            case What::flags: flags(state, change); break;
            case What::block: block(state, change); break;
            case What::removal: removal(state, change); break;
            case What::move: move(state, change); break;
        }
        return effect_;
    }

    std::int64_t count() const { return count_; }  // of changes looked at
    // What `effect` looked at last, made: journalled where the change is a move.
    void make_move(State& state, const Change& change) const {
        state.move(change.node, change.target, steps_.begin(), steps_.count(), local_move_, effect_.excess);
    }
    // For good: memory and amounts are known already.
    void make_for_good(State& state, const Change& change) const {
        if (change.what == What::move) return make_move(state, change);
        state.take(steps_.begin(), steps_.count(), effect_.amounts, effect_.excess);
        if (change.what != What::block)
            for (const Flag& flag : change.flags) state.flag_bare(flag.value, flag.node, flag.paged);
        for (std::size_t i = 0; i < change.runs.size(); ++i) {
            const Run& run = change.runs[i];
            state.insert_bare(run.op, change.node, change.paged.data() + run.first_paged, run.paged, local_[i]);
        }
        if (change.what == What::block)
            for (const Flag& flag : change.flags) state.flag_bare(flag.value, flag.node, flag.paged);
        if (change.what == What::removal)
            for (int node : change.nodes) state.remove_bare(node);
    }

  private:
    const Problem& p_;
    std::int64_t count_ = 0;
    double local_move_ = 0, most_cost_ = 0;
    Effect effect_;
    Steps steps_;
    Ints more_pages_, paged_, slot_, touched_;
    Numbers local_;
    struct Local { int first, last; bool first_held; };  // of a value in a block: places within it
    std::vector<Local> locals_;

    // -- pages --------------------------------------------------------------------------------
    void page(int v, int more) {
        add_to(effect_.amounts, p_.in[v], more);
        if (more_pages_[v] == 0) paged_.push_back(v);
        more_pages_[v] += more;
    }
    void count_page_outs(const State& state) {
        for (int v : paged_) {
            if (more_pages_[v] == 0) continue;  // seen twice, or nothing in the end
            int i = state.ends_of(v), had = state.pages_of(v), has = had + more_pages_[v];
            if (i < 0) {
                if ((had > 0) != (has > 0)) add_to(effect_.amounts, p_.out[v], has > 0 ? 1 : -1);
                more_pages_[v] = 0;
                continue;
            }
            auto [first, last] = p_.persistent[i];
            bool before = state.copies_end(i);
            bool after = state.copies_end(i, more_pages_[first], more_pages_[last]);
            if (before != after) add_to(effect_.amounts, p_.out[last], after ? 1 : -1);
            more_pages_[first] = more_pages_[last] = 0;
        }
        paged_.clear();
    }

    // -- flags --------------------------------------------------------------------------------
    void flags(const State& state, const Change& change) {
        for (const Flag& flag : change.flags) {
            int index = state.index_of(flag.value, flag.node);
            const Events& list = state.events(flag.value);
            if (index <= 0 || list[index].paged == flag.paged) { effect_.possible = false; continue; }
            double size = p_.size[flag.value];
            steps_.add(state.place_of(list[index - 1]) + 1, state.place(flag.node), flag.paged ? -size : size);
            page(flag.value, flag.paged ? 1 : -1);
        }
        count_page_outs(state);
        if (too_dear()) return;
        effect_.excess = steps_.sum(state.memory().data());
    }
    bool too_dear() {
        if (effect_.amounts[COST] > most_cost_) effect_.possible = false;
        return !effect_.possible;
    }

    // -- a block of runs before a run ---------------------------------------------------------
    void block(const State& state, const Change& change) {
        for (const Run& run : change.runs) {
            add_to(effect_.amounts, p_.run[run.op]);
            for (int i = 0; i < run.paged; ++i) page(change.paged[run.first_paged + i], 1);
        }
        for (const Flag& flag : change.flags) {
            int index = state.index_of(flag.value, flag.node);
            if (state.events(flag.value)[index].paged) page(flag.value, -1);
        }
        count_page_outs(state);
        if (too_dear()) return;
        int place = state.place(change.node), length = static_cast<int>(change.runs.size());
        local_.assign(length, state.across(place));
        locals_.clear();
        touched_.clear();
        for (int at = 0; at < length; ++at) {
            const Run& run = change.runs[at];
            const int* paged = change.paged.data() + run.first_paged;
            local_[at] += p_.workspace[run.op];
            for (int v : p_.needed[run.op]) {
                bool pages = std::find(paged, paged + run.paged, v) != paged + run.paged;
                touch(v, at, !pages);
            }
            for (int v : p_.written[run.op]) touch(v, at, false);
            if (p_.generator[run.op] >= 0) touch(p_.generator[run.op], at, false);
        }
        for (int v : touched_) close(state, change, v, place, length);
        effect_.excess = steps_.sum(state.memory().data());
        for (double memory : local_) effect_.excess += over(memory);
    }
    void touch(int v, int at, bool held) {
        if (slot_[v] < 0) {
            slot_[v] = static_cast<int>(locals_.size());
            locals_.push_back({at, at, held});
            touched_.push_back(v);
            if (p_.size[v] != 0) local_[at] += p_.size[v];
            return;
        }
        Local& local = locals_[slot_[v]];
        double size = p_.size[v];
        if (held || p_.is_generator(v)) {  // in between as well
            for (int k = local.last + 1; k < at; ++k) local_[k] += size;
        }
        if (local.last != at) local_[at] += size;
        local.last = at;
    }
    void close(const State& state, const Change& change, int v, int place, int length) {
        Local local = locals_[slot_[v]];
        slot_[v] = -1;
        const Events& list = state.events(v);
        double size = p_.size[v];
        if (p_.is_generator(v)) return close_generator(state, v, local, place);
        int index = state.lower(v, place), count = static_cast<int>(list.size());
        bool crosses = state.held(v, index);
        bool wanted = index < count && list[index].kind == Kind::use && !list[index].paged;
        if (!wanted && index < count)
            for (const Flag& flag : change.flags)
                if (flag.value == v && flag.node == list[index].node) {  // paged in so far
                    wanted = true;
                    steps_.add(place, state.place(flag.node), size);
                }
        if (crosses)
            for (double& memory : local_) memory -= size;
        if (local.first_held)
            for (int k = 0; k < local.first; ++k) local_[k] += size;
        if (wanted)
            for (int k = local.last + 1; k < length; ++k) local_[k] += size;
        if (index == 0) {
            if (local.first_held) effect_.possible = false;
            // A paged first use that is held from the block now: nothing before it changes.
            return;
        }
        int before = state.place_of(list[index - 1]);
        if (local.first_held != crosses) steps_.add(before + 1, place, crosses ? -size : size);
    }
    void close_generator(const State& state, int v, const Local& local, int place) {
        const Events& list = state.events(v);
        double size = p_.size[v];
        if (list.empty()) { effect_.possible = false; return; }
        int first = state.place_of(list.front()), last = state.place_of(list.back());
        if (list.size() > 1 && last >= place) {  // in use across the block anyway: touched again
            for (int k = local.first; k <= local.last; ++k) local_[k] -= size;
            return;
        }
        steps_.add(list.size() > 1 ? last + 1 : first, place, size);
        for (int k = 0; k < local.first; ++k) local_[k] += size;
    }

    // -- runs out -----------------------------------------------------------------------------
    void removal(const State& state, const Change& change) {
        touched_.clear();
        for (int node : change.nodes) {
            int op = state.op(node);
            add_to(effect_.amounts, p_.run[op], -1);
            for (const Ints* values : {&p_.needed[op], &p_.written[op]})
                for (int v : *values) mark(v);
            if (p_.generator[op] >= 0) mark(p_.generator[op]);
        }
        for (int v : touched_) {
            slot_[v] = -1;
            if (p_.is_generator(v)) without_draws(state, change, v); else without(state, change, v);
        }
        count_page_outs(state);
        if (too_dear()) return;
        effect_.excess = steps_.sum(state.memory().data());
        for (int node : change.nodes) {
            int place = state.place(node);
            effect_.excess -= over(state.memory()[place] + steps_.at(place));
        }
    }
    void mark(int v) {
        if (slot_[v] >= 0) return;
        slot_[v] = 0;
        touched_.push_back(v);
    }
    static bool leaves(const Change& change, int node) {
        return std::find(change.nodes.begin(), change.nodes.end(), node) != change.nodes.end();
    }
    void without(const State& state, const Change& change, int v) {
        int old_from = -1, new_from = -1;
        double size = p_.size[v];
        for (const Event& event : state.events(v)) {
            int place = state.place_of(event);
            bool out = state.extra(event.node) && leaves(change, event.node);
            if (event.kind == Kind::use) {
                bool paged = event.paged;
                for (const Flag& flag : change.flags)
                    if (flag.value == v && flag.node == event.node) paged = flag.paged;
                if (!out && paged != event.paged) page(v, paged ? 1 : -1);
                if (out && event.paged) page(v, -1);
                bool was_held = !event.paged && old_from >= 0, is_held = !out && !paged;
                if (is_held && new_from < 0) effect_.possible = false;
                if (was_held != is_held || old_from != new_from) {
                    if (was_held) steps_.add(old_from + 1, place, -size);
                    if (is_held && new_from >= 0) steps_.add(new_from + 1, place, size);
                }
            }
            old_from = place;
            if (!out) new_from = place;
        }
    }
    void without_draws(const State& state, const Change& change, int v) {
        const Events& list = state.events(v);
        if (list.size() < 2) return;
        int first = state.place_of(list.front()), last = state.place_of(list.back()), left = 0, until = first;
        for (const Event& event : list)
            if (!(state.extra(event.node) && leaves(change, event.node))) {
                ++left;
                until = state.place_of(event);
            }
        steps_.add(first, last + 1, -p_.size[v]);
        if (left > 1) steps_.add(first, until + 1, p_.size[v]);
    }

    // -- one run elsewhere --------------------------------------------------------------------
    void move(const State& state, const Change& change) {
        int node = change.node, target = change.target, op = state.op(node), place = state.place(node);
        double local = state.across(target) + p_.workspace[op];
        for (int v : p_.needed[op]) local += shift(state, v, node, place, target);
        for (int v : p_.written[op]) local += shift(state, v, node, place, target);
        for (int v : p_.mutated[op]) local += shift(state, v, node, place, target);
        if (p_.generator[op] >= 0) local += shift_draw(state, p_.generator[op], node, place, target);
        local_move_ = local;
        effect_.excess = steps_.sum(state.memory().data()) + over(local);
        effect_.excess -= over(state.memory()[place] + steps_.at(place));
    }
    // The event of one value goes along. Returns what it adds to memory across the target.
    double shift(const State& state, int v, int node, int place, int target) {
        const Events& list = state.events(v);
        double size = p_.size[v];
        if (size == 0) return 0;
        int count = static_cast<int>(list.size()), j = state.index_of(v, node);
        const Event& event = list[j];
        bool crosses = state.held(v, state.lower(v, target));
        double local = (event.kind == Kind::mutate ? 0.0 : size) - (crosses ? size : 0.0);
        int before = j > 0 ? state.place_of(list[j - 1]) : -1;
        int after = j + 1 < count ? state.place_of(list[j + 1]) : state.length();
        bool next = j + 1 < count && list[j + 1].held_use();
        bool stays = event.held_use();
        if (before < target && target <= after) {  // between the same two
            if (stays && before < 0) effect_.possible = false;
            if (stays && next) return local;
            if (stays) step(place, target, size);
            if (next) step(place + 1, target, -size);
            return local;
        }
        if (stays && j > 0) steps_.add(before + 1, place, -size);
        if (next) steps_.add(place + 1, after, -size);
        if (next && j > 0) steps_.add(before + 1, after, size);
        int i = state.lower(v, target);  // its neighbours there, itself left out
        int left = i - 1 == j ? i - 2 : i - 1, right = i == j ? i + 1 : i;
        bool right_held = right < count && list[right].held_use();
        if (right_held) {
            int until = state.place_of(list[right]);
            if (left >= 0) steps_.add(state.place_of(list[left]) + 1, until, -size);
            steps_.add(target, until, size);
        }
        if (stays && left < 0) effect_.possible = false;
        if (stays && left >= 0) steps_.add(state.place_of(list[left]) + 1, target, size);
        if (next && j == 0) effect_.possible = false;  // what comes first then gives nothing
        return local;
    }
    // An end of a gap goes from one place to another: up where the gap grows.
    void step(int from, int to, double size) {
        if (to > from) steps_.add(from, to, size); else steps_.add(to, from, -size);
    }
    double shift_draw(const State& state, int v, int node, int, int target) {
        const Events& list = state.events(v);
        double size = p_.size[v];
        if (list.size() < 2) return 0;
        int first = state.place_of(list.front()), last = state.place_of(list.back());
        bool crosses = first < target && target <= last;
        int from = first, until = last + 1;
        if (list.front().node == node) {
            from = target;
        } else if (list.back().node == node) {
            until = std::max(target, state.place_of(list[list.size() - 2]) + 1);
        } else if (target > until) {
            until = target;
        }
        steps_.add(first, last + 1, -size);
        steps_.add(from, until, size);
        return crosses ? 0.0 : size;
    }
};

}  // namespace poet
