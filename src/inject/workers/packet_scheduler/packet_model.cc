#include "inject/workers/packet_scheduler/packet_model.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Json;

constexpr std::size_t kFlowPlaces = 8192;  // a power of two
constexpr double kNormalCut = 3;
constexpr double kParetoShape = 3;
constexpr double kParetoCut = 20;
constexpr std::int64_t kLongestNanoseconds = 600'000'000'000;

constexpr std::array<std::pair<JitterDistribution, std::string_view>, 3> kDistributions{{
    {JitterDistribution::kUniform, "uniform"},
    {JitterDistribution::kNormal, "normal"},
    {JitterDistribution::kPareto, "pareto"},
}};

Duration scaled(Duration duration, double by) {
  return Duration{std::llround(static_cast<double>(duration.count()) * by)};
}

// What is missing keeps its default; what is there must make sense.
class ProfileReader {
 public:
  explicit ProfileReader(const Json& json) : json_(json) {}

  void number(const char* name, double& value, double least, double most) {
    const Json& found = field(json_, name);
    if (found.is_null()) return;
    good_ = good_ && found.is_number();
    if (!good_) return;
    value = found.get<double>();
    good_ = std::isfinite(value) && value >= least && value <= most;
  }
  void share(const char* name, double& value) { number(name, value, 0, 1); }
  void duration(const char* name, Duration& value) {
    double nanoseconds = static_cast<double>(value.count());
    number(name, nanoseconds, 0, static_cast<double>(kLongestNanoseconds));
    if (good_) value = Duration{static_cast<std::int64_t>(nanoseconds)};
  }
  void require(bool condition) { good_ = good_ && condition; }
  bool good() const { return good_; }

 private:
  const Json& json_;
  bool good_ = true;
};

}  // namespace

std::string_view to_string(JitterDistribution distribution) {
  for (const auto& [each, name] : kDistributions) {
    if (each == distribution) return name;
  }
  return "uniform";
}

std::optional<JitterDistribution> jitter_distribution_from(std::string_view text) {
  for (const auto& [each, name] : kDistributions) {
    if (name == text) return each;
  }
  return std::nullopt;
}

Duration PacketProfile::longest_delay() const {
  double jitters = 1;
  if (distribution == JitterDistribution::kNormal) jitters = kNormalCut;
  if (distribution == JitterDistribution::kPareto) jitters = kParetoCut;
  return passes * (delay + scaled(jitter, jitters) + longest_wait);
}

Json to_json(const PacketProfile& profile) {
  return {{"delay_ns", profile.delay.count()},
          {"jitter_ns", profile.jitter.count()},
          {"distribution", to_string(profile.distribution)},
          {"delayed_share", profile.delayed_share},
          {"keeps_order", profile.keeps_order},
          {"loss_good", profile.loss_good},
          {"loss_bad", profile.loss_bad},
          {"to_bad", profile.to_bad},
          {"to_good", profile.to_good},
          {"duplicated_share", profile.duplicated_share},
          {"corrupted_share", profile.corrupted_share},
          {"repairs_checksum", profile.repairs_checksum},
          {"bytes_per_second", profile.bytes_per_second},
          {"longest_wait_ns", profile.longest_wait.count()},
          {"passes", profile.passes}};
}

base::Result<PacketProfile> profile_from_json(const Json& json) {
  PacketProfile profile;
  ProfileReader reader{json};
  reader.require(json.is_object());
  reader.duration("delay_ns", profile.delay);
  reader.duration("jitter_ns", profile.jitter);
  reader.share("delayed_share", profile.delayed_share);
  reader.share("loss_good", profile.loss_good);
  reader.share("loss_bad", profile.loss_bad);
  reader.share("to_bad", profile.to_bad);
  reader.share("to_good", profile.to_good);
  reader.share("duplicated_share", profile.duplicated_share);
  reader.share("corrupted_share", profile.corrupted_share);
  reader.number("bytes_per_second", profile.bytes_per_second, 0, 1e12);
  reader.duration("longest_wait_ns", profile.longest_wait);
  double passes = profile.passes;
  reader.number("passes", passes, 1, 2);
  if (field(json, "keeps_order").is_boolean()) profile.keeps_order = json["keeps_order"];
  profile.repairs_checksum = boolean_field(json, "repairs_checksum");
  // What is copied or changed is not held: a held packet stays in the kernel.
  reader.require(!profile.needs_whole_packets() || profile.longest_delay() == Duration::zero());
  if (const std::string name = text_field(json, "distribution"); !name.empty()) {
    const auto distribution = jitter_distribution_from(name);
    reader.require(distribution.has_value());
    profile.distribution = distribution.value_or(JitterDistribution::kUniform);
  }
  if (!reader.good()) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding holds a packet profile that makes no sense"};
  }
  profile.passes = static_cast<int>(passes);
  return profile;
}

PacketModel::PacketModel(const PacketProfile& profile, std::uint64_t seed)
    : profile_(profile), random_(seed) {
  if (profile_.keeps_order) last_due_.resize(kFlowPlaces);
}

PacketFate PacketModel::decide(std::uint64_t flow, std::uint64_t bytes, base::Instant now) {
  PacketFate fate;
  fate.due = now;
  for (int pass = 0; pass < profile_.passes; ++pass) {
    if (lose()) {
      fate.dropped = true;
      return fate;
    }
    if (profile_.bytes_per_second > 0) {
      base::Instant& line_free = line_free_[static_cast<std::size_t>(pass)];
      const base::Instant start = std::max(fate.due, line_free);
      if (start - fate.due > profile_.longest_wait) {
        fate.dropped = true;
        return fate;
      }
      line_free =
          start +
          Duration{std::llround(static_cast<double>(bytes) * 1e9 / profile_.bytes_per_second)};
      fate.due = line_free;
    }
    if (profile_.delayed_share >= 1 || random_.uniform() < profile_.delayed_share)
      fate.due += draw_delay();
    if (profile_.duplicated_share > 0 && random_.uniform() < profile_.duplicated_share)
      fate.duplicated = true;
    if (profile_.corrupted_share > 0 && random_.uniform() < profile_.corrupted_share)
      fate.corrupted = random_.next();
  }
  if (profile_.keeps_order) {
    base::Instant& last = last_due_[flow & (kFlowPlaces - 1)];
    fate.due = last = std::max(fate.due, last);
  }
  return fate;
}

bool PacketModel::lose() {
  if (profile_.to_bad > 0)
    bad_ = bad_ ? random_.uniform() >= profile_.to_good : random_.uniform() < profile_.to_bad;
  const double loss = bad_ ? profile_.loss_bad : profile_.loss_good;
  return loss > 0 && random_.uniform() < loss;
}

Duration PacketModel::draw_delay() {
  if (profile_.jitter <= Duration::zero()) return profile_.delay;
  double jitters = 0;
  switch (profile_.distribution) {
    case JitterDistribution::kUniform:
      jitters = 2 * random_.uniform() - 1;
      break;
    case JitterDistribution::kNormal:
      jitters = std::clamp(random_.normal(), -kNormalCut, kNormalCut);
      break;
    case JitterDistribution::kPareto: {
      // Lomax with mean 1: (shape - 1) * ((1 - u)^(-1/shape) - 1).
      const double u = random_.uniform();
      jitters = (kParetoShape - 1) * (std::pow(1 - u, -1 / kParetoShape) - 1);
      jitters = std::min(jitters, kParetoCut);
      break;
    }
  }
  return std::max(Duration::zero(), profile_.delay + scaled(profile_.jitter, jitters));
}

}  // namespace squall::inject
