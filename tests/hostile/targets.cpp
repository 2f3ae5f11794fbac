#include "hostile/targets.h"

#include <stdexcept>

#include "coordinator/round_records.h"
#include "coordinator/updates/round_file.h"
#include "formats/safetensors_header.h"
#include "journal/journal.h"
#include "protocol/messages.h"
#include "sim/disk.h"
#include "text/tokenizer.h"
#include "wire/frame.h"

namespace strata::hostile {
namespace {

constexpr std::uint16_t kRounds = 1;  // the kind of a coordinator's journal

void promise(bool kept, const char* what) {
  if (!kept) throw std::logic_error(what);
}

// A stream of frames and their messages, as a connection takes them.
std::string feed_stream(ByteSpan bytes, bool known) {
  wire::FrameReader reader;
  if (known) reader.trust();
  while (!bytes.empty()) {
    auto taken = reader.take(bytes);
    if (!taken) return taken.error().line();
    if (!*taken) continue;
    const wire::Frame frame = std::move(**taken);
    auto message = protocol::from_frame(frame);
    if (!message) return message.error().line();
    promise(protocol::to_frame(*message, frame.header.run).payload == frame.payload,
            "a message is written as it was read");
  }
  return reader.inside_frame() ? "ends inside a frame" : "";
}

std::string feed_first_frame(ByteSpan bytes) { return feed_stream(bytes, false); }
std::string feed_frame(ByteSpan bytes) { return feed_stream(bytes, true); }

std::string feed_safetensors(ByteSpan bytes) {
  using formats::SafetensorsHeader;
  auto length = SafetensorsHeader::length(bytes.first(std::min<std::size_t>(8, bytes.size())),
                                          bytes.size(), "model.safetensors");
  if (!length) return length.error().line();
  promise(*length <= bytes.size(), "a header lies inside its file");
  auto header = SafetensorsHeader::parse(bytes.first(*length), bytes.size(), "model.safetensors");
  if (!header) return header.error().line();
  std::size_t at = 0;
  for (const auto& tensor : header->tensors) {
    promise(tensor.begin == at && tensor.end >= tensor.begin, "no hole and no overlap");
    at = tensor.end;
  }
  promise(header->data_begin + at == bytes.size(), "nothing lies behind the last tensor");
  return "";
}

// Planned of the client: one tensor of two terms of rank 2, one that is changed as a whole.
const coordinator::Outline& planned() {
  static const coordinator::Outline kAll{{"a", {4, 3, {2, 2}}}, {"b", {2, 2, {0}}}};
  return kAll;
}

// Planned of a client whose A is drawn from the seed: rank 2, in round 1.
const coordinator::Outline& seeded_plan() {
  static const coordinator::Outline kAll{{"a", {4, 3, {2}, true}}};
  return kAll;
}

constexpr double kNormMax = 1e4;

std::string feed_planned(ByteSpan bytes, const coordinator::Outline& planned,
                         const std::string& encoding = "f32") {
  if (bytes.size() > (1u << 16))
    return "is larger than planned";  // the offer is refused by its size
  sim::Disk disk(sys::Stream(1));
  coordinator::RoundFile file(disk, "/updates/0001", sys::Durability::kProcess,
                              {{adapter::shared_stream(0), 1}, {{"a", {4, 3}}, {"b", {2, 2}}}});
  const auto region = file.reserve(bytes.size());
  if (!region) return region.error().line();
  if (auto written = file.write(*region, bytes); !written) return written.error().line();
  auto update = file.open("clinic-a", *region, bytes.size(), encoding);
  if (!update) return update.error().line();
  if (auto fits = coordinator::check_planned("clinic-a", (*update)->outline(), planned); !fits)
    return fits.error().line();
  if (auto small = coordinator::check_norm(**update, kNormMax); !small) return small.error().line();
  for (const auto& [name, shape] : (*update)->outline())
    promise((*update)->read(name).has_value(), "what was checked can be read");
  return "";
}

std::string feed_update(ByteSpan bytes) { return feed_planned(bytes, planned()); }
std::string feed_int8_update(ByteSpan bytes) { return feed_planned(bytes, planned(), "int8"); }
std::string feed_seeded_update(ByteSpan bytes) { return feed_planned(bytes, seeded_plan()); }

std::vector<coordinator::RoundRecord> records_of(const std::vector<journal::Record>& records,
                                                 std::string& problem) {
  std::vector<coordinator::RoundRecord> out;
  for (const auto& record : records) {
    auto read = coordinator::round_record(record);
    if (!read) {
      problem = read.error().line();
      break;
    }
    out.push_back(std::move(*read));
  }
  return out;
}

std::string feed_journal(ByteSpan bytes) {
  sim::Disk disk(sys::Stream(1));
  const std::filesystem::path path = "/journal/000001.log";
  {
    auto file = disk.open(path);
    if (!file || !(*file)->write(0, bytes)) throw std::logic_error("the simulated disk refuses");
  }
  std::vector<journal::Record> records;
  {
    auto opened = journal::Journal::open(disk, path, kRounds, records);
    if (!opened) return opened.error().line();
    promise(opened->append(1, bytes_of("more")).has_value() && opened->sync().has_value(),
            "a journal that opens can be gone on with");
  }
  std::vector<journal::Record> again;
  promise(journal::Journal::open(disk, path, kRounds, again).has_value() &&
              again.size() == records.size() + 1,
          "what was recovered is there the next time");
  std::string problem;
  (void)records_of(records, problem);
  return problem;
}

std::string feed_tokenizer(ByteSpan bytes) {
  auto tokenizer = text::Tokenizer::parse(text_of(bytes), "tokenizer.json");
  if (!tokenizer) return tokenizer.error().line();
  for (const char* text : {"Hello, world 123", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 \t\n", ""}) {
    if (auto ids = tokenizer->encode(text, true)) (void)tokenizer->decode(*ids, false);
  }
  return "";
}

constexpr Target kTargets[] = {{"first_frame", feed_first_frame},
                               {"frame", feed_frame},
                               {"journal", feed_journal},
                               {"safetensors", feed_safetensors},
                               {"tokenizer", feed_tokenizer},
                               {"update", feed_update},
                               {"seeded_update", feed_seeded_update},
                               {"int8_update", feed_int8_update}};

}  // namespace

std::span<const Target> targets() { return kTargets; }

}  // namespace strata::hostile
