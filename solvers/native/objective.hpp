// What is minimised: cost, and prices on memory over the budget and on limits that are passed.
//
// Each price rises while the state is over what it watches and falls slowly else, within bounds.
// Invariant: `lower` is never above `worth` of the same amounts, whatever the clock says; `allowed` asks
// for no more and no less than the judge's limits.

#pragma once

#include "clock.hpp"

namespace poet {

class Objective {
  public:
    Objective(const Problem& p, double price) : p_(p), replay_(p), excess_price_(price) {
        time_ = p.time;
        replays_ = replay_.needed();
        plain_ = sums_ = !replays_ && p.most_seconds < 0 && p.most_joules < 0 && p.most_writes < 0;
        Amounts base{};
        for (const Amounts& one : p.run) add_to(base, one);
        base_ = base[COST];
        double worth = std::max(base_, 1e-300);
        least_[0] = std::max(base[COMPUTE] * 1e-3, 1e-30);
        least_[1] = std::max(base[JOULES] * 1e-3, 1e-30);
        least_[2] = least_[3] = std::max(p.budget * 0.1, 1.0);
        const double most[] = {p.most_seconds, p.most_joules, p.most_flash, p.most_writes};
        for (int i = 0; i < 4; ++i) watch(i, most[i], worth);
        reset();
    }
    // As if transfers were never hidden and nothing limited but RAM: much faster, and not the truth.
    void pretend_serial(bool serial) {
        plain_ = sums_ || serial;
        replays_ = !serial && replay_.needed();
    }
    bool plain() const { return plain_; }
    bool replays() const { return replays_; }
    // From now on joules count, and a step may take so many seconds at most.
    void least_joules(double most_seconds) {
        double joules = 0;
        for (const Amounts& one : p_.run) joules += one[JOULES];
        excess_price_ *= base_ > 0 && joules > 0 ? joules / base_ : 1.0;
        time_ = false;
        base_ = joules;
        watch(0, most_seconds, base_);
    }
    double base() const { return base_; }

    Figures figures(const State& state) {
        if (replays_) return replay_.figures(state);
        return {state.amounts()[COMPUTE] + state.amounts()[LANE], 0.0};
    }
    void place(const State& state, Answer& answer) { replay_.place(state, answer); }

    // The objective as the judge counts it.
    double cost(const Amounts& amounts, const Figures& figures) const {
        if (plain_) return amounts[COST];
        return time_ ? figures.seconds : amounts[JOULES] + p_.idle_watts * figures.seconds;
    }
    double worth(const Amounts& amounts, double excess, const Figures& figures) const {
        double worth = cost(amounts, figures) + price_ * excess;
        if (plain_) return worth;
        if (time_ && replays_) worth += hidden_price * amounts[LANE];
        double joules = amounts[JOULES] + p_.idle_watts * figures.seconds;
        worth += fine(0, figures.seconds) + fine(1, joules);
        return worth + fine(2, figures.flash) + fine(3, amounts[WRITES]);
    }
    double worth_plain(double cost, double excess) const { return cost + price_ * excess; }
    // What they are worth at least, before any replay.
    double lower(const Amounts& amounts, double excess) const {
        double seconds = amounts[COMPUTE] + amounts[LANE];
        if (replays_ && p_.overlap) seconds = std::max(amounts[COMPUTE], amounts[LANE]);
        return worth(amounts, excess, {seconds, 0.0});
    }
    bool allowed(const Amounts& amounts, const Figures& figures) const {
        if (plain_) return true;
        double joules = amounts[JOULES] + p_.idle_watts * figures.seconds;
        return within(limits_[0].most, figures.seconds) && within(p_.most_joules, joules) &&
               within(p_.most_flash, figures.flash) && within(p_.most_writes, amounts[WRITES]);
    }
    void reset() {
        price_ = excess_price_;
        for (Limit& limit : limits_) limit.price = limit.first_price;
    }
    void dear() { price_ = excess_price_ * 1e5; }
    double price() const { return price_; }
    void adapt(const Amounts& amounts, double excess, const Figures& figures) {
        adapt(price_, excess_price_, excess > 0);
        if (plain_) return;
        double joules = amounts[JOULES] + p_.idle_watts * figures.seconds;
        const double found[] = {figures.seconds, joules, figures.flash, amounts[WRITES]};
        for (int i = 0; i < 4; ++i)
            if (limits_[i].most >= 0) adapt(limits_[i].price, limits_[i].first_price, found[i] > limits_[i].most);
    }

  private:
    struct Limit {
        double most, first_price, price;
    };
    // What a second of transfers counts although compute hides it: room to move, and real disks and
    // memories serve compute worse meanwhile.
    static constexpr double hidden_price = 0.01;

    const Problem& p_;
    Replay replay_;
    bool time_ = false;
    double excess_price_, price_ = 0, base_ = 0;
    bool sums_ = true, plain_ = true, replays_ = false;  // sums_: plain is the truth
    std::array<Limit, 4> limits_{};  // seconds, joules, flash, writes
    std::array<double, 4> least_{};  // amounts of them below which a limit counts as that much

    // Twice the limit costs as much again as the step, to begin with.
    void watch(int which, double most, double worth) {
        double price = most < 0 ? 0.0 : worth / std::max(most, least_[which]);
        limits_[which] = {most, price, price};
    }
    double fine(int which, double amount) const {
        const Limit& limit = limits_[which];
        return limit.most < 0 ? 0.0 : limit.price * over(amount - limit.most);
    }
    static bool within(double most, double amount) { return most < 0 || amount <= most; }
    static void adapt(double& price, double first, bool over) {
        price *= over ? 1.1 : 0.95;
        price = std::min(std::max(price, first * 0.05), first * 1e6);
    }
};

}  // namespace poet
