"""Questions that belong to no problem: of other subjects, and of the same tools without being about one of the problems.

One subject a line: two questions about it, and what answers both.
"""

NEAR = """
What is Docker and why do people use containers?|Is a container the same as a virtual machine?|A container shares the host's kernel and isolates processes; a virtual machine has a kernel of its own.
How do I write a multi-stage Dockerfile for Go?|Which base image is smallest for a static binary?|Build in one stage, copy the binary into scratch or distroless.
How does git store objects internally?|What does git bisect do?|Git stores blobs, trees and commits by hash; bisect searches the commit that broke something.
How do I write a good commit message?|Should I squash commits before a merge?|A short imperative subject, a body that says why; squash what is noise.
How do I rename a git tag?|Can I sign commits with an ssh key?|Make the new tag, delete the old one; gpg.format=ssh signs with an ssh key.
What is the difference between a list and a tuple in Python?|When should I use a dataclass?|Tuples do not change; a dataclass names the fields of plain data.
How do Python generators work?|Explain yield from with an example|A generator produces values lazily; yield from delegates to another one.
How do I profile a Python program?|Which tool draws flame graphs for Python?|cProfile counts calls, py-spy samples a running process and draws flame graphs.
How does the asyncio event loop schedule tasks?|Can I call blocking code from a coroutine?|Tasks run until they await; blocking code goes to a thread with asyncio.to_thread.
What are lifetimes in Rust for?|How do I implement Display for my enum?|Lifetimes relate references; implement fmt::Display with a match.
Which web framework should I choose in Rust?|What is the difference between axum and actix?|Both are fast; axum builds upon tower and hyper.
How does serde rename fields?|How do I parse JSON with unknown keys in serde?|Use #[serde(rename)] and #[serde(flatten)] with a map.
How do I benchmark a Rust function?|What does criterion measure?|Criterion repeats a function and tells time with its spread.
What is a trait object in Rust?|When does dyn cost more than generics?|dyn Trait calls through a table; generics are copied for each type.
How do I set up a reverse proxy with Caddy?|Does Caddy support HTTP/3?|Caddy proxies in two lines and speaks HTTP/3 by default.
How do I gzip responses in nginx?|How can nginx redirect www to the bare domain?|gzip on for the types wanted; a server block with return 301 redirects.
What is the difference between TCP and UDP?|Why does QUIC run over UDP?|TCP orders and repeats; QUIC does that itself above UDP.
How do I read a packet capture in Wireshark?|What does a SYN flood look like?|Filter by stream; many SYN without ACK is a flood.
What is a Kubernetes operator?|How do I drain a node before maintenance?|An operator reconciles custom resources; kubectl drain evicts pods.
What is the difference between a Deployment and a StatefulSet?|How do I expose a service with an ingress?|StatefulSets give stable names and volumes; an ingress routes HTTP.
How do I write a Helm chart?|Can Helm roll back a release?|helm create makes a chart; helm rollback returns to a revision.
How do I create an index in PostgreSQL concurrently?|When is a partial index useful?|CREATE INDEX CONCURRENTLY does not lock writes; a partial one covers few rows.
What does EXPLAIN ANALYZE tell me?|Why does postgres choose a sequential scan?|It runs the query and shows times; for many rows a scan is cheaper.
How do I do a full-text search in PostgreSQL?|What is a GIN index?|tsvector with a GIN index finds words.
How do I model many-to-many relations in SQL?|What is third normal form?|A join table with two foreign keys; each fact in one place.
What is the use of window functions in SQL?|How do I compute a running total?|sum() over (order by …) keeps rows and adds up.
How do I back up MySQL with mysqldump?|Can I restore a single table from a dump?|mysqldump --single-transaction; cut the table out of the dump.
What are Redis streams?|How does redis pub/sub differ from a queue?|Streams keep entries and groups; pub/sub forgets.
What is Kafka log compaction?|How many partitions should a new system start with?|Compaction keeps the last value a key; start with a few times the consumers.
How do I write a systemd timer?|What does Type=notify mean in a unit?|A .timer starts its .service; notify waits for READY=1.
How do I read logs with journalctl since yesterday?|How large may the journal grow?|journalctl --since yesterday; SystemMaxUse limits it.
How do I write a bash loop over files with spaces?|What does set -euo pipefail do?|Quote "$f"; the options stop at errors and unset names.
How do I use awk to sum a column?|Replace text in many files with sed?|awk '{s+=$2} END {print s}'; sed -i with find.
What is the best terminal multiplexer?|How do I split panes in tmux?|tmux splits with prefix % and ".
How do I configure neovim with lua?|Which plugin manager is popular for neovim?|lazy.nvim loads plugins from lua tables.
How can I remap caps lock to escape?|Which keyboard layout is best for programming?|keyd or setxkbmap remap keys; layouts are a matter of taste.
How do I mount an NFS share in fstab?|Is NFS or SMB faster at home?|An fstab line with nfs4; they hardly differ on gigabit.
How do I set up a RAID 1 with mdadm?|Is btrfs RAID5 safe to use?|mdadm --create --level=1; btrfs RAID5 has a write hole.
How does ZFS deduplicate?|Should I enable compression on ZFS?|Dedup costs memory; lz4 compression is nearly free.
How do I resize an LVM volume?|Can I shrink an XFS file system?|lvextend -r grows; XFS cannot shrink.
What is a WireGuard peer?|How do I route all traffic through a VPN?|A peer is a key with allowed addresses; 0.0.0.0/0 routes all.
How do I set up unbound as a resolver?|What is DNSSEC?|unbound resolves from the root; DNSSEC signs records.
How do I write unit tests with pytest fixtures?|How do I mock an HTTP call in pytest?|Fixtures give objects; respx or responses mock HTTP.
What is property-based testing?|How does shrinking work in Hypothesis?|It makes inputs from rules and shrinks failing ones.
What is the difference between REST and gRPC?|When is GraphQL a bad idea?|gRPC is typed and binary; GraphQL makes caching hard.
How do JSON web tokens work?|How long should an access token live?|Signed claims; some minutes with a refresh token.
How do I hash passwords properly?|Is bcrypt still good enough?|argon2id or bcrypt with a cost that hurts.
What is OAuth2 PKCE?|How do I log in with OpenID Connect?|PKCE binds the code to the client; OIDC adds an id token.
How do CSS grid and flexbox differ?|How do I centre a div?|Grid has two dimensions; place-items: center.
How do I make a responsive table in HTML?|What is the viewport meta tag?|Let it scroll or stack; the tag sets the width on phones.
What is tree shaking in bundlers?|Is esbuild faster than webpack?|Unused exports are dropped; esbuild is much faster.
How do TypeScript generics work?|What is the difference between interface and type?|Generics take types as parameters; interfaces merge.
How do React server components work?|When should I use a reducer hook?|They render on the server; a reducer suits many related states.
How do I deploy a static site for free?|What does a CDN do?|Several hosts serve static sites; a CDN caches near the reader.
How do transformers compute attention?|What is rotary position embedding?|Weights by query and key products; RoPE rotates by position.
What is retrieval augmented generation?|How do I choose a chunk size for documents?|Passages are found and given to the model; a few hundred tokens.
What is LoRA fine-tuning?|How many examples does fine-tuning need?|Low-rank changes to weights; some hundred good examples.
How does k-means clustering work?|What is a silhouette score?|Points go to the nearest of k means; the score compares distances.
How do I split data into train and test sets?|What is overfitting?|Hold some out; a model that learnt noise fails on new data.
How do I merge two dataframes in pandas?|How do I pivot a table in pandas?|merge on keys; pivot_table aggregates.
How does HNSW search for neighbours?|Is cosine similarity better than euclidean distance?|It walks a layered graph; for unit vectors they rank alike.
Which compression is best for backups?|How does zstd compare with gzip?|zstd is faster at the same ratio.
How do I set up monitoring with Prometheus?|What is a good alert for a web service?|Scrape metrics; alert on errors and latency that people feel.
How does consistent hashing work?|What is the CAP theorem?|Keys map to a ring; under a partition choose consistency or availability.
How does Raft elect a leader?|What is a quorum?|By votes of a majority in a term; a quorum is a majority.
What is a bloom filter?|How does an LSM tree work?|A set that may say yes wrongly; sorted runs that are merged.
How do I write a Makefile for C?|What does the volatile keyword do in C?|Targets with dependencies; volatile keeps accesses.
How do I debug a core dump with gdb?|What is address sanitizer?|gdb program core, then bt; it finds bad memory accesses.
What are goroutines?|How do I cancel work in Go with a context?|Cheap threads of the runtime; pass ctx and watch Done.
How does garbage collection in Java work?|What is the difference between HashMap and TreeMap?|Young objects are collected often; TreeMap sorts.
How do I learn functional programming?|What is a monad in Haskell?|Begin with pure functions; a monad chains computations.
What license should I choose for my library?|Can I use GPL code in a company?|MIT or Apache for wide use; GPL asks for the source when you distribute.
How do I estimate a software project?|How do I run a good code review?|Split it and give ranges; review small changes kindly.
How do I prepare for a coding interview?|What is big O of quicksort?|Practise and think aloud; n log n on average.
How do I choose a mechanical keyboard?|Which monitor is good for programming?|Try switches; 27 inch with high resolution.
How do I print double-sided from Linux?|Which scanner works well with SANE?|lp -o sides=two-sided-long-edge; SANE has a list.
"""

FAR = """
How do I feed a sourdough starter?|Why is my bread crumb so dense?|Equal weights of flour and water daily; dense crumb wants more fermentation.
How long should I boil an egg?|Why do eggs peel badly?|Six to ten minutes; fresh eggs peel badly.
What can I cook with leftover rice?|How do I reheat rice safely?|Fried rice; cool it quickly and heat it through.
How do I season a cast iron pan?|Can tomato sauce be cooked in cast iron?|Thin layers of oil, baked hot; acid strips the seasoning.
Which cheese melts best on pizza?|How hot should a pizza oven be?|Low-moisture mozzarella; 400 °C and more.
How do I brew better filter coffee?|What grind is right for a French press?|Sixty grams a litre, fresh beans; a coarse grind.
What is the difference between green and black tea?|How long does oolong steep?|Oxidation; two to four minutes.
How do I make kimchi at home?|Is fermented food healthy?|Salted cabbage with chilli paste ferments for days; mostly yes.
How do you temper chocolate?|Why did my ganache split?|Warm, cool and warm again; it was too hot.
What is umami?|Which vegetables have most glutamate?|The savoury taste; tomatoes and mushrooms.
How do I keep basil alive indoors?|When should I repot a monstera?|Light and even water; every two years in spring.
How do I get rid of slugs in the garden?|Which plants attract bees?|Traps and dry paths; lavender and borage.
When do I prune apple trees?|Why does my lemon tree drop leaves?|In late winter; cold, wet roots.
How do I build a raised bed?|What goes into good compost?|Planks, a liner, soil in layers; green and brown matter.
How do I start tomatoes from seed?|Why are my tomato leaves curling?|Six weeks before the last frost; heat or uneven water.
How often should a dog be walked?|What does it mean when a dog yawns?|Twice a day at least; often stress.
Why does my cat knead blankets?|Can cats eat tuna every day?|A habit from nursing; no, now and then.
How long do budgies live?|What do hedgehogs eat?|Five to ten years; insects, no milk.
How do bees make honey?|Why do fireflies glow?|Nectar is concentrated and changed by enzymes; to find mates.
How fast can a cheetah run?|Do sharks sleep?|About 100 km/h; in rests while they swim.
Why is the sky blue?|What causes a rainbow?|Air scatters short waves more; drops refract light.
How far away is the moon?|Why do we see one side of the moon?|384 000 km; it turns once an orbit.
What is a black hole?|How do stars die?|Gravity that light cannot leave; it depends on their mass.
How many moons has Jupiter?|Could people live on Mars?|More than ninety; only with much help.
When is the next solar eclipse in Europe?|How do tides work?|In August 2026 in Spain; the moon and sun pull water.
What is entropy in physics?|Why can't we build perpetual motion?|The number of ways; energy is kept and entropy grows.
How does a nuclear reactor work?|What is the half-life of carbon-14?|Fission heats water; 5 730 years.
What is the double slit experiment?|Is light a wave or a particle?|Single particles interfere; both, as you look.
How do vaccines work?|Why is influenza different each year?|They train the immune system; the virus mutates.
What does the liver do?|How much water should one drink?|It changes and stores substances; by thirst, about two litres.
How can I fall asleep faster?|Are naps good for you?|Regular hours and darkness; short ones are.
What helps against back pain from sitting?|Which stretches are good for hips?|Move often; lunges and pigeon pose.
How do I train for a first marathon?|What should I eat before a long run?|Build up over 16 weeks; carbohydrates, little fat.
How do I improve my freestyle swimming?|Is cycling better for the knees than running?|Rotate and breathe evenly; yes, usually.
What are the rules of offside in football?|Who won the 1954 World Cup?|Nearer to the goal than the last but one; West Germany.
How is a tennis match scored?|Why is zero called love in tennis?|15, 30, 40, game; perhaps from l'œuf.
What is a good opening in chess for beginners?|How does castling work?|The Italian game; king two squares, rook beside.
How do you play the card game bridge?|What is a good hand in poker?|Two pairs bid and take tricks; a pair of aces to begin.
How many people play go worldwide?|How hard is it to learn go?|Some 40 million; the rules are easy, the game is not.
How do I learn the guitar by myself?|Which chords are easiest?|A little each day; Em, G, C, D.
What is a fugue?|Who wrote the Goldberg Variations?|Voices that imitate a theme; Bach.
How do I hold a violin bow?|Why are Stradivari violins so expensive?|With a bent thumb; rarity and fame.
What is the circle of fifths?|How do minor and major scales differ?|Keys by number of accidentals; the third.
Which jazz albums should one know?|Who was Thelonious Monk?|Kind of Blue to begin with; a pianist and composer.
How does a synthesizer make sound?|What is FM synthesis?|Oscillators, filters, envelopes; one wave changes another's frequency.
Who painted the Night Watch?|What is impressionism?|Rembrandt; light and moments with loose strokes.
How do I draw hands?|Which pencils are good for sketching?|Start from simple shapes; HB to 4B.
How do I mix skin tones in oil?|How long does oil paint dry?|Earths, white and a little blue; days to weeks.
What makes a good photograph?|What does aperture do?|Light and a subject; depth of field and light.
Should I buy a used film camera?|How do I scan negatives at home?|Yes if it was serviced; with a camera and a lightbox.
Who wrote One Hundred Years of Solitude?|What is magical realism?|García Márquez; wonders told as ordinary.
Which book of Dostoevsky should I read first?|Is War and Peace worth it?|Crime and Punishment; yes, slowly.
What is a haiku?|How do I write a sonnet?|Three lines of 5, 7, 5; fourteen lines with a turn.
How did the Roman Empire fall?|Who was Marcus Aurelius?|Slowly, by many causes; emperor and Stoic.
What caused the First World War?|What was the Treaty of Versailles?|Alliances, rivalry, an assassination; the peace of 1919.
When did the Berlin Wall fall?|What was the Marshall Plan?|In November 1989; American aid for rebuilding Europe.
Who were the Phoenicians?|How did ancient Egyptians build pyramids?|Traders of the Levant; with ramps and organised labour.
What was the Silk Road?|Who was Marco Polo?|Trade routes across Asia; a Venetian traveller.
How did the Black Death change Europe?|What is a guild?|Wages rose, society changed; an association of craftsmen.
What is the longest river in the world?|Where does the Danube begin?|Nile or Amazon; in the Black Forest.
How many countries are in Africa?|What is the driest desert?|Fifty-four; the Atacama.
How do volcanoes form?|What was the eruption of Krakatoa?|Melt rises through the crust; a great eruption of 1883.
Why do earthquakes happen?|What does the Richter scale measure?|Plates slip; the energy by a logarithm.
What is El Niño?|How do hurricanes get their names?|Warm water in the Pacific; from lists.
How are clouds classified?|What is the difference between fog and mist?|By height and shape; how far one sees.
How do glaciers move?|What is permafrost?|They creep and slide; ground frozen for years.
How do I plan a trip to Japan?|Is the rail pass worth it?|Two weeks, a few regions; only with long trips.
What should I see in Lisbon in three days?|Where can I hear fado?|Alfama, Belém, Sintra; in Mouraria.
How do I pack light for a week?|Which plug do I need in Italy?|One bag, layers; types F and L.
Is it safe to hike alone in the Alps?|What belongs in a first aid kit?|With planning and weather sense; bandages, tape, painkillers.
How do night trains in Europe work?|Can I take a bike on the train in France?|Book a bunk early; with a reservation on some.
How do I learn Spanish quickly?|When is the subjunctive used in Spanish?|Daily listening and speaking; after wishes and doubt.
What is the difference between ser and estar?|How do I roll my r?|Nature or state; relax the tongue tip.
How many cases has Finnish?|Is Hungarian related to Finnish?|Fifteen; distantly.
How do Chinese tones work?|How many characters does one need to read a newspaper?|Pitch tells words apart; about 3 000.
What is the origin of the word algorithm?|Why is English spelling so odd?|From al-Khwarizmi; history and printing.
How does compound interest work?|What is an index fund?|Interest on interest; it follows a market.
Should I rent or buy a flat?|How does a mortgage work?|It depends on years and prices; a loan secured on a house.
What is inflation?|How do central banks set interest rates?|Prices rise in general; to steer inflation.
How do I write a household budget?|How large should an emergency fund be?|List income and costs; three months of costs.
What is a bond's yield?|Why do bond prices fall when rates rise?|Return for its price; new bonds pay more.
How do I file a tax return as a freelancer?|What is value added tax?|Keep receipts and forms; a tax on each step of sale.
How do I ask for a raise?|How do I write a cover letter?|With results and figures; short and for the job.
How do I give a good presentation?|How do I get over stage fright?|One idea a slide; practise aloud.
What should I ask in a job interview?|How do I negotiate an offer?|About the work and the team; with a range and reasons.
How do I deal with a difficult colleague?|How do I say no politely?|Speak early and privately; briefly and kindly.
How can I stop procrastinating?|Does the pomodoro technique work?|Begin tiny; for many it does.
How do I meditate as a beginner?|What is mindfulness?|Watch the breath for minutes; attention without judging.
What is Stoicism about?|Who was Epictetus?|What is up to us; a Stoic teacher born a slave.
What did Kant mean by the categorical imperative?|What is utilitarianism?|Act by rules that could be law; the greatest good.
What is the trolley problem?|Do we have free will?|A choice between harms; it is disputed.
How do I help a toddler sleep?|When do babies start to walk?|Routine and patience; around one year.
How do I explain death to a child?|What are good board games for six-year-olds?|Honestly and simply; cooperative ones.
How do I teach a kid to ride a bike?|When do children learn to read?|With a balance bike; between five and seven.
What is a good gift for grandparents?|How do I organise a family reunion?|Photos and time; date and place early.
How do I fix a dripping tap?|How do I unclog a sink without chemicals?|Change the washer; plunger and snake.
How do I hang a shelf in plasterboard?|Which drill bit for tiles?|With cavity anchors; a diamond or glass bit.
How do I paint a room without streaks?|Do I need primer on new plaster?|Wet edges and a good roller; yes.
How does a heat pump work?|Is underfloor heating worth it?|It moves heat from outside; with low temperatures.
How do I insulate an attic?|What is a U-value?|Fill without gaps, mind vapour; heat that passes.
How do I change a car tyre?|What does the oil light mean?|Jack at the point, nuts crosswise; stop and check oil.
How long do electric car batteries last?|How fast does a car charge at home?|Ten years and more; overnight at 11 kW.
How do I adjust bicycle brakes?|Why does my bike chain skip?|Cable and pads; worn chain and cogs.
Which tyre pressure for a gravel bike?|How do I true a wheel?|Two to three bar; tighten spokes by quarter turns.
How do I get a fishing licence?|Which knot for a hook?|After an exam in many places; the clinch knot.
How do I tie a bowline?|What is a reef knot good for?|The rabbit comes out of the hole; for reefing, not for load.
How do sailing boats sail upwind?|What does port and starboard mean?|Sails lift and the keel resists; left and right.
How do planes fly?|Why are plane windows round?|Wings turn air down; corners crack.
How do submarines dive?|How deep is the Mariana Trench?|They flood tanks; about 11 km.
How do I knit a scarf?|What is the difference between knitting and crochet?|Cast on, knit rows; two needles or a hook.
How do I sew on a button?|Which needle for denim?|Cross the holes, wind a shank; a jeans needle 100.
How do I get red wine out of a carpet?|How do I wash wool?|Blot and cold water; cold, gentle, flat.
How do I polish leather shoes?|How do I iron a shirt?|Clean, cream, brush; collar first.
How do I make soap?|How do candles burn?|Lye and fat react; wax vapour feeds the flame.
How do I whittle a spoon?|Which wood is good for carving?|Green wood and sharp knives; lime.
How do I sharpen kitchen knives?|What is Damascus steel?|On stones at an even angle; patterned layered steel.
What is a dovetail joint?|How do I glue wood properly?|Interlocking wedges; clean, thin glue, clamps.
How do I prove that the square root of two is irrational?|What is a prime number?|By contradiction; divisible by one and itself.
What is the Monty Hall problem?|What is Bayes' theorem?|Switching wins two of three; it turns conditional chances round.
How do I integrate by parts?|What is a derivative?|The product rule backwards; a rate of change.
What is a group in algebra?|What are complex numbers used for?|A set with an invertible operation; waves and rotations.
What is the golden ratio?|How are Fibonacci numbers defined?|About 1.618; each is the sum of two before.
How do I solve a Rubik's cube?|How many positions has a Rubik's cube?|Layer by layer; 43 quintillion.
What is game theory?|Explain the prisoner's dilemma|Choices that depend on others; each defects though both would gain.
What is DNA made of?|How does CRISPR work?|Sugars, phosphates, bases; a guide and a cutting protein.
How does photosynthesis work?|Why are leaves green?|Light makes sugar of water and CO2; chlorophyll reflects it.
How did whales evolve?|What is convergent evolution?|From land mammals; alike shapes by alike needs.
How do mushrooms grow?|Which mushrooms are poisonous?|From a net in the ground; death caps above all.
How do antibiotics work?|What is antibiotic resistance?|They harm bacteria; bacteria that survive spread.
What is the periodic table?|Why are noble gases inert?|Elements by their electrons; full shells.
How does soap clean?|What is pH?|One end holds fat, the other water; how acid it is.
Why does ice float?|Why does water boil at lower temperature in mountains?|It is less dense; less pressure.
How does a fridge work?|How do induction stoves work?|A fluid carries heat out; fields heat the pan.
How does a microphone work?|What is noise cancelling?|A membrane moves a coil; opposite sound.
What is a transistor?|How does a solar panel work?|A switch by a field; light frees electrons.
How does GPS know where I am?|What is a gyroscope?|By times from satellites; a wheel that keeps direction.
How are diamonds formed?|What is the hardest mineral?|Deep, hot, pressed carbon; diamond.
How do I identify birds by song?|When do swallows return?|Learn a few each spring; in April.
How do I build a bird house?|What do robins eat in winter?|Rough wood, the right hole; fat, oats, mealworms.
How do I photograph the Milky Way?|Which telescope for beginners?|Wide lens, 15 seconds; a Dobsonian.
How do I make ice cream without a machine?|What is gelato?|Condensed milk and cream; less air, less fat.
How do I cook a steak medium rare?|What is sous vide?|To 54 °C inside; in a bag at exact heat.
How do I make stock from bones?|Why skim the foam from broth?|Simmer for hours; for a clear taste.
What does al dente mean?|Which pasta for pesto?|Firm to the bite; trofie.
How do I make a vegan omelette?|What replaces eggs in cakes?|With chickpea flour; flax or applesauce.
How long does honey keep?|Can olive oil go bad?|For years; within two.
What wine goes with fish?|How do I store opened red wine?|Dry white; closed and cold, some days.
How is whisky made?|What is the difference between ale and lager?|Malt is distilled and aged; yeast and temperature.
How do I mix an old fashioned?|What is vermouth?|Whiskey, sugar, bitters; wine with herbs.
How do I plan a wedding on a small budget?|What does a best man do?|Few guests, off season; rings and a speech.
How do I write a eulogy?|What does a notary do?|A few true stories; certifies papers.
How do I make a will?|What is power of attorney?|Write it by hand or with a notary; acting for another.
What are my rights when a flight is cancelled?|How do I claim lost luggage?|Care and perhaps money in the EU; a report at the airport.
What is copyright?|How long do patents last?|Rights in works; twenty years.
How does the European Parliament work?|What is a veto?|It votes on laws; a right to forbid.
How does proportional representation work?|What is gerrymandering?|Seats by share of votes; borders drawn for gain.
What is the Universal Declaration of Human Rights?|Who was Eleanor Roosevelt?|Rights of all, 1948; she led its drafting.
How do I recycle old batteries?|What is microplastic?|At shops that sell them; tiny plastic pieces.
How can I lower my power bill?|How much energy does a kettle use?|Heating first; a tenth of a kWh a litre.
How do wind turbines work?|What is a smart grid?|Blades turn a generator; a net that balances.
How does carbon capture work?|What is a carbon footprint?|CO2 is bound and stored; what one causes.
What is a passive house?|How do green roofs help?|It needs almost no heating; they hold water and cool.
How do I choose running shoes?|When should shoes be replaced?|By comfort; after 600 km or so.
How do I do a proper push-up?|How many pull-ups are good?|Straight body, elbows in; ten is fine.
What is a balanced diet?|Are carbohydrates bad?|Plants, grain, some protein; no.
How does intermittent fasting work?|How much protein does one need?|Eating within hours; about 1 g a kilo.
What is the flu incubation time?|When should I see a doctor with a cough?|One to four days; after weeks, or with blood.
How do I treat a burn?|What to do about a wasp sting?|Cool water; cool it, watch for allergy.
How do contact lenses work?|What is astigmatism?|They bend light on the eye; a cornea that is not round.
How often should one see a dentist?|Is fluoride safe?|Once or twice a year; in small amounts.
What is dyslexia?|How does memory work?|Trouble with reading; traces that are made again.
What is the placebo effect?|How does anaesthesia work?|Expecting help helps; nerves are silenced.
How do magicians saw people in half?|How do I do a card trick?|Two people or a false box; learn a control.
How are animated films made?|Who founded Studio Ghibli?|Drawings or models in frames; Miyazaki, Takahata, Suzuki.
What is film noir?|Which Kurosawa film should I watch first?|Dark crime films of the forties; Seven Samurai.
How do I write a screenplay?|What is a MacGuffin?|Scenes in present tense; a thing that drives the plot.
How do I start a podcast?|Which voice exercises help?|A theme, a microphone, a plan; humming and reading aloud.
How do I grow a moustache?|How do I shave without irritation?|Patience and trimming; warm water and sharp blades.
What does feng shui say about beds?|How do I choose a mattress?|A wall behind; by weight and by lying on it.
How do I train a puppy not to bite?|Can dogs eat apples?|Stop play, offer toys; without seeds.
How do I set up an aquarium?|Which fish are easy to keep?|Cycle the water first; guppies.
How do I keep bees?|When do bees swarm?|Learn with a club; in May and June.
How do I ride a horse?|How high are horses measured?|Heels down, eyes up; in hands.
How do I juggle three balls?|How do I do a handstand?|Throw to eye height; against a wall first.
How do I surf a first wave?|What is a rip current?|Small waves and a long board; swim sideways out of it.
How do I ski parallel?|How are avalanches triggered?|Weight on the outer ski; weak layers and load.
What is bouldering?|How are climbing routes graded?|Climbing low without rope; by difficulty scales.
How do I dance salsa?|Where does tango come from?|On one, three steps; from the Río de la Plata.
How do I apply eyeliner?|Which sunscreen is best?|Short strokes; broad, 30 or more.
How are perfumes composed?|Why does rain smell good?|Top, heart, base; oils and geosmin.
How is paper made?|Who invented printing?|Pulp, sieve, press; Gutenberg in Europe.
How do I bind a book?|What is a serif?|Fold, sew, glue; a small stroke at letters' ends.
How do I write with a fountain pen?|How do I learn calligraphy?|Light pressure; basic strokes.
What is origami?|How do I fold a crane?|Paper folding; from a bird base.
How are stamps collected?|What is my old coin worth?|By theme or country; ask a dealer, look at its state.
How do I trace my family tree?|What does my surname mean?|Ask elders, then archives; a trade, place or father's name.
How do astronauts sleep?|What is the ISS used for?|In bags on walls; for research.
How do rockets work?|What is escape velocity?|They throw mass back; 11.2 km/s on Earth.
How does sonar work?|Can bats see?|Echoes tell distance; yes.
What is synaesthesia?|Why do we dream?|Senses that mix; nobody is sure.
Why do onions make us cry?|Why is chilli hot?|A gas from cut cells; capsaicin.
How is glass made?|Is glass a liquid?|Sand and soda melted; no.
How is silk produced?|What is linen?|By caterpillars' cocoons; flax fibre.
How is salt harvested?|Where does pepper come from?|From sea and mines; from a vine in India.
How do lighthouses work?|What is a fathom?|A lamp with lenses; six feet.
Who invented the telephone?|How did telegraphs work?|Bell, and others; pulses on a wire.
How did people tell time before clocks?|What is a leap second?|By sun and water; to follow Earth's turning.
Why are there 60 minutes in an hour?|What is the Gregorian calendar?|From Babylon; the reform of 1582.
What is a palindrome?|What is the longest English word?|Reads both ways; a lung disease in dictionaries.
What is sarcasm?|How do jokes work?|Saying the opposite; a surprise.
How do I write a limerick?|Who was Edward Lear?|Five lines, AABBA; a nonsense poet.
How do I make a good playlist for a party?|How do I host a dinner for ten?|Slow start, known songs; cook ahead.
How do I decorate a small living room?|Which colours make rooms look larger?|Light and few pieces; pale ones.
How do I clean a coffee machine?|How do I descale a kettle?|With descaler and brushes; citric acid.
How do I remove mould in the bathroom?|How often should I air rooms?|Alcohol, then dry air; a few times a day.
How do I pack boxes for moving?|How do I move a piano?|Books in small ones; with people who do that.
How do I spot a fake banknote?|What is a credit score?|Feel, look, tilt; how reliably one pays.
How does insurance work?|Do I need legal insurance?|Many pay for few; it depends.
What is a cooperative?|How do I found an association?|Owned by members; statutes and seven founders.
How do crowdfunding campaigns succeed?|What is a business plan?|An audience before it starts; what, for whom, with what money.
How do I open a small café?|How do I price handmade jewellery?|Permits, place, figures; material, time, margin.
How do supermarkets arrange shelves?|What is a loss leader?|What sells stands at eye height; sold below cost.
What is cognitive dissonance?|What is the bystander effect?|Beliefs that clash; all wait for others.
What is a dialect?|What is Esperanto?|A way of speaking of a region; a made language.
How do I read sheet music?|What does allegro mean?|Lines and spaces are notes; lively.
How do I tune a piano?|How many keys has a piano?|With a lever and patience; 88.
How are mountains measured?|Who first climbed Everest?|By satellites; Hillary and Tenzing.
What is the Great Barrier Reef?|Why do corals bleach?|A reef off Australia; warm water.
How do penguins keep warm?|Where do polar bears live?|They huddle; in the Arctic.
How long do elephants live?|Are elephants afraid of mice?|About sixty years; no.
What do koalas eat?|Is a koala a bear?|Eucalyptus; a marsupial.
How do spiders make webs?|Are daddy longlegs venomous?|With silk from glands; harmless to us.
"""


def entries():
    """Each question with its answer."""
    for line in (NEAR + FAR).strip().splitlines():
        if not line.strip():
            continue
        *questions, answer = [part.strip() for part in line.split("|")]
        assert len(questions) == 2, line
        for question in questions:
            yield question, answer


NOISE = list(entries())
