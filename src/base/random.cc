#include "base/random.h"

#include <bit>
#include <cmath>

#include "base/check.h"

namespace squall::base {

__extension__ typedef unsigned __int128 Wide;

Random::Random(std::uint64_t seed) {
  for (std::uint64_t& word : state_) {  // SplitMix64
    seed += 0x9E3779B97F4A7C15;
    std::uint64_t mixed = seed;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
    word = mixed ^ (mixed >> 31);
  }
}

std::uint64_t Random::next() {
  const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const std::uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

double Random::uniform() {
  return static_cast<double>(next() >> 11) * 0x1.0p-53;
}

std::uint64_t Random::below(std::uint64_t limit) {
  SQUALL_CHECK(limit > 0);
  // Lemire 2019, "Fast Random Integer Generation in an Interval": the high half of a product is the
  // answer; the few low halves that would favour some answers are drawn again.
  Wide product = Wide{next()} * limit;
  if (static_cast<std::uint64_t>(product) < limit) {
    const std::uint64_t unfair = (0 - limit) % limit;
    while (static_cast<std::uint64_t>(product) < unfair) product = Wide{next()} * limit;
  }
  return static_cast<std::uint64_t>(product >> 64);
}

double Random::exponential(double mean) {
  return -mean * std::log1p(-uniform());
}

double Random::normal() {
  // Marsaglia's polar method. The second value is thrown away, so that the state is all there is.
  while (true) {
    const double x = 2 * uniform() - 1;
    const double y = 2 * uniform() - 1;
    const double square = x * x + y * y;
    if (square > 0 && square < 1) return x * std::sqrt(-2 * std::log(square) / square);
  }
}

}  // namespace squall::base
