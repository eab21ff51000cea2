// The search: diverse short anneals, then the rest of the moves on the best of them.
//
// A proposal is evaluated without being made; it is made once it is accepted, or where a second one
// builds on it. What is minimised is cost plus a price on bytes over the budget, which rises while the
// state is over it. Invariant: what is kept fits and is not broken. Deterministic for a seed and a
// number of moves as long as no time limit is given.

#pragma once

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>

#include "moves.hpp"

namespace poet {

class Search {
  public:
    using Poll = std::function<bool(const Answer*, std::int64_t)>;  // the best, where there is one

    Search(const Problem& problem, const Start& start, std::uint64_t seed, double price, bool check)
        : p_(problem), moves_(problem, seed), trial_(problem), first_(start), price_(price), check_(check) {}

    Answer run(std::int64_t moves, double seconds, const Poll& poll) {
        begun_ = Clock::now();
        limit_ = seconds;
        poll_ = &poll;
        for (const Amounts& one : p_.run) base_ += one[COST];
        anneal(first_, moves / 2, 0.0, 0.4, 0.1);
        anneal(first_, moves / 10, 0.4, 0.5, 0.4);
        anneal(first_, moves / 10, 0.5, 0.6, 0.02);
        const Start best = found() ? as_start(best_) : first_;
        anneal(best, moves - moves / 2 - 2 * (moves / 10), 0.6, 1.0, 0.03);
        return best_;
    }
    // Proposals that were evaluated, accepted or not.
    std::int64_t moves() const { return trial_.count(); }

  private:
    using Clock = std::chrono::steady_clock;
    static constexpr int poll_every = 512;

    const Problem& p_;
    Moves moves_;
    Trial trial_;
    Start first_;
    double price_, base_ = 0, limit_ = 0;
    bool check_ = false, stopped_ = false;
    Answer best_;
    Change change_;
    Clock::time_point begun_;
    const Poll* poll_ = nullptr;

    bool found() const { return best_.cost >= 0; }
    static Start as_start(const Answer& answer) {
        Start start{answer.runs, {}, answer.start_ram};
        for (auto [v, place, issued] : answer.paged) start.paged.emplace_back(v, place);
        return start;
    }
    double elapsed() const { return std::chrono::duration<double>(Clock::now() - begun_).count(); }

    void anneal(const Start& start, std::int64_t moves, double from, double until, double heat) {
        State state(p_, start);
        double price = price_, share = 0, temperature = 0;
        keep(state);
        const std::int64_t begun = trial_.count();
        for (std::int64_t i = 0; !stopped_; ++i) {
            if (i % poll_every == 0) {
                // Where hardly anything can be proposed, trying counts too.
                std::int64_t done = std::max(trial_.count() - begun, i / 16);
                if (done >= moves) return;
                share = static_cast<double>(done) / static_cast<double>(moves);
                if (limit_ > 0) {
                    double now = elapsed() / limit_;
                    if (now >= until) return;
                    share = std::max(share, (now - from) / (until - from));
                }
                if (!(*poll_)(found() ? &best_ : nullptr, trial_.count())) { stopped_ = true; return; }
                // Too long over the budget: excess gets dearer, else slowly cheaper, within limits.
                price *= state.excess() > 0 ? 1.1 : 0.95;
                price = std::min(std::max(price, price_ * 0.05), price_ * 1e6);
                state.recount();
            }
            if (i % 64 == 0) {
                double overhead = (found() ? best_.cost : state.amounts()[COST]) - base_;
                double each = std::max(overhead, 1e-7 * base_) / std::max(1, state.changes());
                temperature = heat * each * std::pow(0.005, share);
            }
            if (step(state, price, temperature)) keep(state);
        }
    }
    // One move; whether the state changed. How much worse it may get is drawn first (Metropolis): what
    // costs more than that by itself needs no look at memory.
    bool step(State& state, double price, double temperature) {
        double most = state.amounts()[COST] + price * state.excess();
        most -= temperature * std::log(1.0 - moves_.random.unit());
        bool made = first_part(state);
        if (!made_by_itself_ && propose(state)) {
            const Effect& effect = trial_.effect(state, change_, most - state.amounts()[COST]);
            double after = state.amounts()[COST] + effect.amounts[COST];
            if (effect.possible && after + price * (state.excess() + effect.excess) <= most) {
                if (check_) check(state, effect); else trial_.make_for_good(state, change_);
                state.commit();
                return true;
            }
            if (made) state.undo();
            return false;
        }
        if (!made) return false;
        if (!state.broken() && state.amounts()[COST] + price * state.excess() <= most) {
            state.commit();
            return true;
        }
        state.undo();
        return false;
    }
    // Some moves have two parts, the first of which is made at once; some are all of that kind.
    bool made_by_itself_ = false;
    double pick_ = 0;
    bool first_part(State& state) {
        made_by_itself_ = false;
        pick_ = moves_.random.unit();
        if (pick_ < 0.30) {  // hold one value instead of another
            swap_ = true;
            return p_.page && moves_.hold(state, change_) && make_possible(state);
        }
        swap_ = false;
        pick_ = (pick_ - 0.30) / 0.70;
        if (pick_ > 0.96 && !p_.persistent.empty() && p_.page) {
            made_by_itself_ = true;
            return start_side(state);
        }
        if (p_.reorder && pick_ > 0.90) {
            made_by_itself_ = true;
            bool moved = moves_.shift(state, trial_, change_);
            if (!moved) state.undo();
            return moved;
        }
        if (moves_.random.chance(0.15)) {
            double keep = pick_;
            pick_ = moves_.random.unit();
            bool made = propose(state) && make_possible(state);
            pick_ = keep;
            return made;
        }
        return false;
    }
    bool swap_ = false;
    bool make_possible(State& state) {
        if (!trial_.effect(state, change_, std::numeric_limits<double>::infinity()).possible) return false;
        if (change_.what == What::move) trial_.make_move(state, change_); else make(state, change_);
        return true;
    }
    bool propose(State& state) {
        if (swap_ || pick_ < 0.40) return moves_.bring_back(state, change_);
        if (pick_ < 0.55) return p_.page && moves_.hold(state, change_);
        if (pick_ < 0.78) return moves_.drop(state, change_);
        return moves_.relocate(state, change_);
    }
    // A persistent storage begins in RAM instead of flash, or the other way round.
    bool start_side(State& state) {
        int i = moves_.random.below(static_cast<int>(p_.persistent.size()));
        int first = p_.persistent[i].first;
        bool in_ram = state.begins_in_ram(i);
        state.set_ram(i, !in_ram);
        const Events& list = state.events(first);
        if (in_ram) {
            if (!list.empty() && list[0].held_use()) state.flag(first, list[0].node, true);
        } else if (list.size() > 1 && list[1].paged) {
            state.flag(first, list[1].node, false);
        }
        return true;
    }
    void check(State& state, Effect effect) {
        Amounts amounts = state.amounts();
        double excess = state.excess();
        trial_.make_for_good(state, change_);
        double off = std::fabs(state.excess() - excess - effect.excess);
        off += std::fabs(state.amounts()[COST] - amounts[COST] - effect.amounts[COST]) > 1e-9 * (1 + base_);
        if (off == 0) off = state.audit();
        if (off != 0 || state.broken()) throw std::logic_error("a change did not do what its trial said: kind " +
            std::to_string(static_cast<int>(change_.what)) + " off " + std::to_string(off) + (state.broken() ? " broken" : ""));
    }
    void keep(const State& state) {
        if (state.excess() > 0 || state.broken()) return;
        if (found() && state.amounts()[COST] >= best_.cost * (1 - 1e-12)) return;
        best_ = state.answer(state.amounts()[COST]);
    }
};

}  // namespace poet
