// Does the judge tell the truth? Simulated records of which we know what is true: some predictions
// hold, some are violated, some faults have no effect. Samples are a Gaussian AR(1) process, rho 0,
// 0.5 or 0.8, at 200/s. Bars: false held at most 1 %, false violated at most 1 %, inconclusive at
// most 5 % of what the plan calls decidable; a fault without effect never held.
// Usage: truth_simulation_bench [records]

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/random.h"
#include "unit/judge/run_builder.h"

namespace {

using squall::base::Random;
using squall::evidence::Outcome;
using squall::judge::testing::Request;
using squall::judge::testing::RunBuilder;
using squall::model::Verdict;

constexpr double kMedian = 0.02;
constexpr double kSpread = 0.5;
constexpr double kP99 = 2.3263478740408408;

double normal_quantile(double probability) {
  double low = -10;
  double high = 10;
  for (int step = 0; step < 80; ++step) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < probability ? low : high) = middle;
  }
  return low;
}

double between(Random& random, double low, double high) {
  return low + (high - low) * random.uniform();
}

template <typename Value>
Value one_of(Random& random, const std::vector<Value>& values) {
  return values[random.below(values.size())];
}

enum class Truth { kHolds, kViolated, kThreshold };

// How the system answers before, during and after the fault.
struct System {
  double rho = 0;
  double failing = 0;        // share, outside the fault
  double failing_fault = 0;  // during it
  double slower_fault = 1;   // factor on latency during it
  double stuck_until = 0;    // the gauge is above 0 from 12 s until then
  bool loses = false;
};

struct Case {
  std::string kind;
  std::string prediction;
  System system;
};

Case share_case(Random& random, Truth truth) {
  const double limit = one_of(random, std::vector<double>{0.98, 0.99, 0.995});
  Case made{"success share", "", {}};
  made.prediction = "reads.success >= " + std::to_string(limit * 100) + "% during fault";
  const double factor = truth == Truth::kHolds      ? between(random, 0, 0.2)
                        : truth == Truth::kViolated ? between(random, 3, 20)
                                                    : 1;
  made.system.failing_fault = (1 - limit) * factor;
  return made;
}

Case slice_case(Random& random, Truth truth) {
  Case made = share_case(random, truth);
  made.kind = "share of a condition";
  const double failing = made.system.failing_fault;
  const double limit = truth == Truth::kHolds ? std::max(0.005, failing * between(random, 5, 20))
                       : truth == Truth::kViolated ? failing / between(random, 3, 20)
                                                   : failing;
  made.prediction =
      "share(reads.status == 503) <= " + std::to_string(limit * 100) + "% during fault";
  return made;
}

std::string milliseconds(double seconds) {
  return std::to_string(seconds * 1000) + "ms";
}

double distance(Random& random, Truth truth) {
  if (truth == Truth::kThreshold) return 1;
  return truth == Truth::kHolds ? between(random, 1.5, 4) : between(random, 0.25, 0.67);
}

Case quantile_case(Random& random, Truth truth) {
  Case made{"p99 against a number", "", {}};
  made.system.slower_fault = between(random, 1, 5);
  const double value = kMedian * made.system.slower_fault * std::exp(kSpread * kP99);
  made.prediction =
      "p99(reads.latency) < " + milliseconds(value * distance(random, truth)) + " during fault";
  return made;
}

Case mean_case(Random& random, Truth truth) {
  Case made{"mean against a number", "", {}};
  made.system.slower_fault = between(random, 1, 5);
  const double value = kMedian * made.system.slower_fault * std::exp(kSpread * kSpread / 2);
  made.prediction =
      "mean(reads.latency) < " + milliseconds(value * distance(random, truth)) + " during fault";
  return made;
}

Case baseline_case(Random& random, Truth truth) {
  Case made{"p99 against the baseline", "", {}};
  made.prediction = "p99(reads.latency) < 2 * baseline(p99(reads.latency)) during fault";
  made.system.slower_fault = 2 / distance(random, truth);
  return made;
}

Case gauge_case(Random& random, Truth truth) {
  Case made{"gauge within a time of the revert", "", {}};
  made.prediction = "stuck.value == 0 for 5s within 15s of revert";
  made.system.stuck_until =
      truth == Truth::kHolds ? between(random, 12, 38.5) : between(random, 41, 60);
  return made;
}

Case gauge_during_case(Random& random, Truth truth) {
  Case made{"gauge during the fault", "", {}};
  made.prediction = "stuck.value == 0 during fault";
  made.system.stuck_until = truth == Truth::kHolds ? 0 : between(random, 14, 60);
  return made;
}

Case lost_case(Random&, Truth truth) {
  Case made{"lost writes", "lost(writes) == 0 at end", {}};
  made.system.loses = truth == Truth::kViolated;
  return made;
}

using Maker = Case (*)(Random&, Truth);
constexpr Maker kMakers[] = {share_case,    slice_case, quantile_case,     mean_case,
                             baseline_case, gauge_case, gauge_during_case, lost_case};
constexpr std::size_t kEstimates = 5;  // the first of them are estimates

RunBuilder run_of(Random& random, const Case& made) {
  const System system = made.system;
  const std::string slice = "reads where reads.status == 503";
  const bool sliced = made.prediction.starts_with("share");
  RunBuilder run;
  if (sliced) run.slice(slice, "reads");
  double state = random.normal();
  const double innovation = std::sqrt(1 - system.rho * system.rho);
  const double usual = system.failing > 0 ? normal_quantile(1 - system.failing) : 99;
  const double fault = system.failing_fault > 0 ? normal_quantile(1 - system.failing_fault) : 99;
  run.requests("reads", 200, 0, 50, [&, slice](double when) {
    const bool during = when >= 10 && when < 30;
    Request request;
    request.latency = kMedian * std::exp(kSpread * state) * (during ? system.slower_fault : 1);
    if (state > (during ? fault : usual)) {
      request.outcome = Outcome::kStatus;
      if (sliced) request.slices = {slice};
    }
    state = system.rho * state + innovation * random.normal();
    return request;
  });
  const double shift = between(random, 0, 0.5);
  run.gauge("stuck.value", 0.5, shift, 50,
            [&](double when) { return when >= 12 && when < system.stuck_until ? 1 : 0; });
  if (made.kind == "lost writes") {
    run.requests("writes", 20, 0, 50, squall::judge::testing::good);
    for (std::uint64_t sequence = 0; sequence < 200; ++sequence) {
      run.write(sequence, 0.1 + 0.2 * static_cast<double>(sequence),
                squall::evidence::WriteFate::kAcknowledged);
      run.read_back(sequence, system.loses && sequence == 77 ? 0 : 1);
    }
  }
  run.hypothesis(made.prediction);
  run.map().probes[0].parameters = squall::model::Parameters(
      squall::base::Json{{"rate", {{"shape", "constant"}, {"rate", 200.0}}}});
  run.map().probes[1].parameters =
      squall::model::Parameters(squall::base::Json{{"every", 500'000'000}});
  return run;
}

struct Tally {
  int records = 0;
  int wrongly_held = 0;
  int wrongly_violated = 0;
  int decidable = 0;
  int open = 0;  // inconclusive or no data, of the decidable

  void add(Truth truth, Verdict verdict, bool is_decidable) {
    ++records;
    decidable += is_decidable;
    open += is_decidable && verdict != Verdict::kHeld && verdict != Verdict::kViolated;
    wrongly_held += truth != Truth::kHolds && verdict == Verdict::kHeld;
    wrongly_violated += truth != Truth::kViolated && verdict == Verdict::kViolated;
  }
  void print(const std::string& what) const {
    const auto share = [](int part, int whole) { return whole == 0 ? 0.0 : 100.0 * part / whole; };
    std::printf("%-36s %6d  %6.2f %%  %6.2f %%  %6.2f %%\n", what.c_str(), records,
                share(wrongly_held, records), share(wrongly_violated, records),
                share(open, decidable));
  }
};

Verdict verdict_of(Random& random, Case made, double rho, bool effect, bool& decidable) {
  made.system.rho = rho;
  RunBuilder run = run_of(random, made);
  if (!effect) run.without_effect();
  decidable =
      squall::judge::decidability(run.experiment().hypothesis[0], run.map(), run.experiment())
          .decidable;
  return run.judge_one().verdict;
}

}  // namespace

int main(int argc, char** argv) {
  const int records = argc > 1 ? std::atoi(argv[1]) : 2000;
  Random random(20261121);
  std::map<std::string, Tally> by_kind;
  Tally all;
  int without_effect = 0;
  int without_effect_held = 0;
  bool decidable = false;
  for (int i = 0; i < records; ++i) {
    const double rho = one_of(random, std::vector<double>{0, 0.5, 0.8});
    const Maker make = kMakers[random.below(std::size(kMakers))];
    if (random.uniform() < 0.15) {
      const Verdict verdict =
          verdict_of(random, make(random, Truth::kHolds), rho, /*effect=*/false, decidable);
      ++without_effect;
      without_effect_held += verdict == Verdict::kHeld;
      continue;
    }
    const Truth truth = random.uniform() < 0.5 ? Truth::kHolds : Truth::kViolated;
    const Case made = make(random, truth);
    const Verdict verdict = verdict_of(random, made, rho, /*effect=*/true, decidable);
    all.add(truth, verdict, decidable);
    by_kind[made.kind].add(truth, verdict, decidable);
  }
  std::printf("%d simulated records\n%-36s %6s  %8s  %8s  %8s\n", records, "", "", "false", "false",
              "incon-");
  std::printf("%-36s %6s  %8s  %8s  %8s\n", "prediction", "runs", "held", "violated", "clusive");
  for (const auto& [kind, tally] : by_kind) tally.print(kind);
  all.print("all");
  std::printf("faults without effect: %d, held: %d\n", without_effect, without_effect_held);

  std::printf("\nright at the threshold, where 2.5 %% on each side is what 95 %% means\n");
  for (std::size_t kind = 0; kind < kEstimates; ++kind) {
    for (const double rho : {0.0, 0.8}) {
      Tally tally;
      std::string name;
      for (int i = 0; i < records / 4; ++i) {
        const Case made = kMakers[kind](random, Truth::kThreshold);
        name = made.kind + (rho > 0 ? ", rho 0.8" : ", rho 0");
        tally.add(Truth::kThreshold, verdict_of(random, made, rho, /*effect=*/true, decidable),
                  decidable);
      }
      tally.print(name);
    }
  }
  return 0;
}
