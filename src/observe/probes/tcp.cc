// Whether somebody accepts a TCP connection, and how long that takes.

#include <array>

#include "observe/address.h"
#include "observe/common_parameters.h"
#include "observe/probes/kinds.h"
#include "observe/ticking_probe.h"

namespace squall::observe {
namespace {

using evidence::Outcome;
using model::ValueType;

constexpr std::array<model::ParameterDescriptor, 4> kParameters = {{
    {.name = "address",
     .type = ValueType::kText,
     .required = true,
     .minimum = 3,
     .maximum = 300,
     .summary = "Where to connect: host:port."},
    every_parameter("1s"),
    timeout_parameter("1s"),
    kAlwaysParameter,
}};
constexpr std::array<model::SignalDescriptor, 2> kSignals = {{kLatencySignal, kSuccessSignal}};

class TcpProbe final : public TickingProbe {
 public:
  TcpProbe(const model::ProbeSpecification& specification, ProbeContext context,
           const HostAndPort& address)
      : TickingProbe(specification.name, std::move(context),
                     specification.parameters.duration("every"),
                     specification.parameters.duration("timeout")),
        resolver_(address.host, address.port),
        series_(sink(), this->context().slices) {}

  base::Status check() override {
    SQUALL_TRY(resolver_.resolve());
    const auto fd = connect_within(resolver_, base::BootClock::now() + std::chrono::seconds(3));
    if (!fd.ok()) return fd.error();
    return {};
  }
  base::Status prepare() override {
    SQUALL_TRY(resolver_.resolve());
    return series_.declare(name());
  }

 private:
  void tick(base::Instant intended) override {
    evidence::RequestSample sample{.intended = intended, .sent = now()};
    const auto fd = connect_within(resolver_, intended + limit());
    sample.done = now();
    if (!fd.ok()) {
      const bool late = fd.error().code == base::ErrorCode::kTimeout;
      sample.outcome = late ? Outcome::kTimeout : Outcome::kConnect;
      resolver_.refresh();
    }
    series_.add(sample);
  }

  Resolver resolver_;
  RequestSeries series_;
};

}  // namespace

constexpr model::ProbeKindDescriptor kTcpProbe = {
    .name = "tcp",
    .summary = "Connects to a TCP port and closes the connection again.",
    .parameters = kParameters,
    .signals = kSignals,
    .example = "db-port: { tcp: { address: \"127.0.0.1:5432\", every: 500ms } }"};

base::Result<std::unique_ptr<Probe>> make_tcp_probe(const model::ProbeSpecification& specification,
                                                    ProbeContext context) {
  SQUALL_ASSIGN(const HostAndPort address,
                parse_host_and_port(specification.parameters.text("address")));
  return std::unique_ptr<Probe>(
      std::make_unique<TcpProbe>(specification, std::move(context), address));
}

}  // namespace squall::observe
