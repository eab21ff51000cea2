// What the search tries: proposals of changes, by chance, most of them where a value is used.
//
//     bring back   page a held value in before its use, or run its op (with what that misses) there
//     hold         hold a value that is paged in
//     drop         take a second run out, with the runs that only it needed
//     relocate     put a run elsewhere in its room: near, anywhere, or at either end of it
//     shift        a run far away, with the runs that stand in its way
//     defer        an update to after a second run that needs what it overwrites
//
// Invariant: a proposal only reads the State; runs stay within State::room, second runs come after
// first ones and before what supersedes a version that they touch.

#pragma once

#include <limits>
#include <tuple>

#include "trial.hpp"

namespace poet {

class Moves {
  public:
    Moves(const Problem& p, std::uint64_t seed)
        : random(seed), p_(p), in_block_(p.size.size(), 0) {}

    Random random;

    bool bring_back(const State& state, Change& change) {
        int v = -1, node = -1, index = 0;
        bool paged = false;
        for (int tries = 0; tries < 4 && index <= 0; ++tries) {
            std::tie(v, node) = use(state);
            if (v < 0) continue;
            index = state.index_of(v, node);
            if (index <= 0) continue;
            const Events& list = state.events(v);
            paged = list[index].paged;
            if (!paged && state.place(node) - state.place_of(list[index - 1]) < 2) index = 0;
        }
        if (index <= 0) return false;
        if (!paged && p_.page && (!p_.rematerialize || random.chance(0.5))) {
            change.clear(What::flags);
            change.flags.push_back({v, node, true});
            return true;
        }
        return run_for(state, v, node, change);
    }
    bool hold(const State& state, Change& change) {
        const Ints& paged = state.paged_values();
        if (paged.empty()) return false;
        int v = paged[random.below(static_cast<int>(paged.size()))];
        const Events& list = state.events(v);
        int which = random.below(state.pages_of(v)), index = 0;
        while (!list[index].paged || which-- > 0) ++index;
        if (index == 0) return false;  // begins in flash: nothing to hold before it
        change.clear(What::flags);
        change.flags.push_back({v, list[index].node, false});
        return true;
    }
    bool drop(const State& state, Change& change) {
        if (state.extras().empty()) return false;
        change.clear(What::removal);
        int node = state.extras()[random.below(static_cast<int>(state.extras().size()))];
        take_out(state, node, random.chance(0.7), p_.page && random.chance(0.3), change);
        return true;
    }
    bool relocate(const State& state, Change& change) {
        int node = movable(state);
        if (node < 0) return false;
        auto [low, high] = state.room(node);
        if (high - low < 3) return false;
        int place = state.place(node), target;
        double pick = random.unit();
        if (pick < 0.5) {
            int step = 1 + scale(high - low);
            target = random.chance(0.5) ? std::min(high, place + 1 + step) : std::max(low + 1, place - step);
        } else if (pick < 0.75) {
            target = low + 1 + random.below(high - low);
        } else {
            target = random.chance(0.5) ? high : low + 1;
        }
        return relocation(state, node, target, change);
    }
    // Put a run before or after another that is `distance` away, and what is in its way with it.
    bool shift(State& state, Trial& trial, Change& change) {
        int count = state.length();
        if (count < 5) return false;
        int place = 1 + random.below(count - 2);
        int distance = 2 + scale(count / 2);
        group_.clear();
        visits_ = 0;
        if (random.chance(0.5)) {
            int anchor = std::min(count - 1, place + distance);
            return later(state, trial, change, state.order()[place], state.order()[anchor]);
        }
        int anchor = std::max(0, place - distance);
        return sooner(state, trial, change, state.order()[place], state.order()[anchor]);
    }
    // Run an op again although an update has run since: the update goes to after that, with what needs it.
    bool defer(State& state, Trial& trial, Change& change) {
        auto [v, node] = use(state);
        int op = v < 0 ? -1 : p_.producer[v];
        if (op < 0 || !p_.may_rerun[op] || state.place(op) >= state.place(node)) return false;
        int first = -1;
        for (int update : p_.superseders[op]) {
            if (state.place(update) >= state.place(node)) continue;
            group_.clear();
            visits_ = 0;
            if (!later(state, trial, change, update, node)) return false;
            if (first < 0 || state.place(update) < state.place(first)) first = update;
        }
        if (first < 0 || !run_for(state, v, node, change, first)) return false;
        if (!trial.effect(state, change, std::numeric_limits<double>::infinity()).possible) return false;
        make(state, change);
        return true;
    }
    // The op that gives a value once more right before a node that uses it, with what it misses.
    bool run_for(const State& state, int v, int node, Change& change, int before = -1) {
        change.clear(What::block);
        change.node = before < 0 ? node : before;
        change.flags.push_back({v, node, false});
        bool done = run_before(state, v, state.place(change.node), random.unit(), change);
        for (int w : made_) in_block_[w] = 0;
        made_.clear();
        return done;
    }

  private:
    const Problem& p_;
    Ints in_block_, made_;
    Ints group_;
    int visits_ = 0;
    static constexpr int chain_cap = 16, group_cap = 24;

    // A number below `most`, each power of two about as likely.
    int scale(int most) {
        int bits = 1;
        while ((most >> bits) > 0) ++bits;
        return std::min(most - 1, random.below(1 << random.below(bits + 1)));
    }
    // A random use of something that takes memory: (value, node), or value -1.
    std::pair<int, int> use(const State& state) {
        int node = state.order()[1 + random.below(state.length() - 1)];
        const Ints& uses = node == state.end_node() ? p_.results : p_.uses[state.op(node)];
        if (uses.empty()) return {-1, node};
        return {uses[random.below(static_cast<int>(uses.size()))], node};
    }
    int movable(const State& state) {
        if (p_.reorder && (state.extras().empty() || random.chance(0.5)))
            return state.order()[1 + random.below(state.length() - 2)];
        if (state.extras().empty()) return -1;
        return state.extras()[random.below(static_cast<int>(state.extras().size()))];
    }
    static bool relocation(const State& state, int node, int target, Change& change) {
        int place = state.place(node);
        if (target == place || target == place + 1) return false;
        change.clear(What::move);
        change.node = node;
        change.target = target;
        return true;
    }
    void note(int v) {
        if (in_block_[v]) return;
        in_block_[v] = 1;
        made_.push_back(v);
    }
    bool run_before(const State& state, int v, int place, double deep, Change& change) {
        int op = p_.producer[v];
        if (op < 0 || static_cast<int>(change.runs.size()) >= chain_cap || !state.may_run_before(op, place))
            return false;
        if (state.length() > 8 * state.ops() + 64) return false;
        std::size_t own = 0;
        int paged[32];
        for (int w : p_.needed[op]) {
            if (in_block_[w]) continue;
            int index = state.lower(w, place);
            if (state.held(w, index)) continue;
            if (index == 0) {
                if (p_.producer[w] >= 0 || !p_.page || own >= 32) return false;
                paged[own++] = w;
                continue;
            }
            if (place - state.place_of(state.events(w)[index - 1]) < 2 || p_.size[w] == 0) continue;
            double pick = random.unit();
            if (pick < deep && p_.producer[w] >= 0 && state.may_run_before(p_.producer[w], place)) {
                if (!run_before(state, w, place, deep, change)) return false;
            } else if (p_.page && own < 32 && random.chance(0.5)) {
                paged[own++] = w;
            }
        }
        // What a deeper run paged in or made meanwhile is there: it is held from there.
        own = std::remove_if(paged, paged + own, [&](int w) { return in_block_[w] != 0; }) - paged;
        change.runs.push_back({op, static_cast<int>(change.paged.size()), static_cast<int>(own)});
        change.paged.insert(change.paged.end(), paged, paged + own);
        for (int w : p_.needed[op]) note(w);
        for (int w : p_.written[op]) note(w);
        return true;
    }
    // A run, the runs that nobody needs without it, what they gave paged in where it is wanted.
    void take_out(const State& state, int node, bool parents, bool page, Change& change) {
        change.nodes.push_back(node);
        int op = state.op(node);
        for (int v : p_.needed[op]) {
            int index = state.index_of(v, node), next = survivor(state, change, v, index + 1);
            const Events& list = state.events(v);
            if (list[index].paged && next >= 0 && list[next].held_use() && random.chance(0.7))
                change.flags.push_back({v, list[next].node, true});
        }
        if (page)
            for (int v : p_.written[op]) {
                int next = survivor(state, change, v, state.index_of(v, node) + 1);
                if (p_.size[v] != 0 && next >= 0 && state.events(v)[next].held_use())
                    change.flags.push_back({v, state.events(v)[next].node, true});
            }
        if (!parents) return;
        for (int v : p_.needed[op]) {
            int index = state.index_of(v, node);
            const Events& list = state.events(v);
            if (list[index].paged || index == 0 || list[index - 1].kind != Kind::write) continue;
            int maker = list[index - 1].node;
            if (state.extra(maker) && static_cast<int>(change.nodes.size()) < chain_cap &&
                !gone(change, maker) && !wanted(state, change, maker))
                take_out(state, maker, true, page, change);
        }
    }
    static bool gone(const Change& change, int node) {
        return std::find(change.nodes.begin(), change.nodes.end(), node) != change.nodes.end();
    }
    int survivor(const State& state, const Change& change, int v, int index) const {
        const Events& list = state.events(v);
        for (int i = index; i < static_cast<int>(list.size()); ++i)
            if (!gone(change, list[i].node)) return i;
        return -1;
    }
    bool wanted(const State& state, const Change& change, int maker) const {
        for (int v : p_.written[state.op(maker)]) {
            int next = survivor(state, change, v, state.index_of(v, maker) + 1);
            if (next < 0 || !state.events(v)[next].held_use()) continue;
            bool paged = false;
            for (const Flag& flag : change.flags)
                paged = paged || (flag.value == v && flag.node == state.events(v)[next].node);
            if (!paged) return true;
        }
        return false;
    }
    // Runs are made to move one by one: what stands in the way goes first. All is journalled.
    bool put(State& state, Trial& trial, Change& change, int node, int target) {
        if (!relocation(state, node, target, change)) return true;
        if (!trial.effect(state, change, std::numeric_limits<double>::infinity()).possible) return false;
        trial.make_move(state, change);
        return true;
    }
    bool may_shift(const State& state, int node) {
        return state.op(node) >= 0 && (p_.reorder || state.extra(node)) && ++visits_ <= group_cap;
    }
    bool later(State& state, Trial& trial, Change& change, int node, int anchor) {
        if (!may_shift(state, node)) return false;
        int high;
        while ((high = state.room(node).second) < state.place(anchor)) {
            int blocker = state.order()[high];
            if (shifted(blocker)) break;  // stands before the anchor by now; this one goes before it
            if (!later(state, trial, change, blocker, anchor)) return false;
        }
        group_.push_back(node);
        return put(state, trial, change, node, std::min(state.place(anchor), high));
    }
    bool sooner(State& state, Trial& trial, Change& change, int node, int anchor) {
        if (!may_shift(state, node)) return false;
        int low;
        while ((low = state.room(node).first) > state.place(anchor)) {
            int blocker = state.order()[low];
            if (shifted(blocker)) break;
            if (!sooner(state, trial, change, blocker, anchor)) return false;
        }
        group_.push_back(node);
        return put(state, trial, change, node, std::max(state.place(anchor), low) + 1);
    }
    bool shifted(int node) const { return std::find(group_.begin(), group_.end(), node) != group_.end(); }
};

}  // namespace poet
